package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
	"github.com/rondodb/rondo/internal/verify"
)

// ballast fills the file system of dir with one file until only left bytes are free, and returns its path.
func ballast(dir string, left int) (path string, err error) {
	path = filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("make ballast: %w", err)
	}
	block := bytes.Repeat([]byte{1}, 4096)
	size := int64(0)
	for err == nil {
		var n int
		n, err = f.Write(block)
		size += int64(n)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = f.Truncate(max(0, size-int64(left)))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("write ballast: %w", err)
	}
	return path, nil
}

// brokenDisk is what a test of a disk that fails under a node shares: the load, the clients, and what must hold.
type brokenDisk struct {
	*cluster
	victim *proc.Process
	others []*proc.Process
	load   *load
	watch  *witness
	began  time.Time
}

// withDisk starts a cluster of three whose last node has its data in dir, under load.
func withDisk(t *testing.T, dir string) *brokenDisk {
	t.Helper()
	c := loopback(t, 3)
	b := &brokenDisk{cluster: c, victim: c.nodes[2], others: c.nodes[:2]}
	b.victim.Data = filepath.Join(dir, "data")
	c.start()
	b.load = c.newLoad(func(config *verify.Config) { config.Bucket = loadBucket })
	b.load.begin()
	c.written(b.load, 50)
	return b
}

// failed notes that the disk fails from now on.
func (b *brokenDisk) failed(what string) {
	b.t.Helper()
	b.watch = b.cluster.watch(b.nodes...)
	b.load.note("%s of %s", what, b.victim.Name)
	b.began = time.Now()
}

// write puts 16 KiB through another node, which the victim gets as a replica.
func (b *brokenDisk) write(ctx context.Context, key string) error {
	one, err := client.New(client.Config{Nodes: []string{b.others[0].URL()}, Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer one.Close()
	_, err = one.Put(ctx, "filling", key, bytes.Repeat([]byte("x"), 16<<10), client.Options{})
	return err
}

// fill writes through another node until the victim's disk fails or is full, as told says; it returns nil then.
func (b *brokenDisk) fill(told func(ctx context.Context) error) {
	b.t.Helper()
	n := 0
	b.until(readyTime, func(ctx context.Context) error {
		for range 10 {
			n++
			if err := b.write(ctx, fmt.Sprint("filling-", n)); err != nil {
				return err
			}
		}
		return told(ctx)
	})
}

// full tells whether a node says that its disk is full, or no longer.
func full(ctx context.Context, p *proc.Process, want bool) error {
	a, err := page(p).About(ctx)
	if err == nil && a.Disk.Full != want {
		err = fmt.Errorf("%s: %+v, want full %v", p.Name, a.Disk, want)
	}
	return err
}

// serve lets clients work for a while and fails the test unless the other nodes serve as ever, reads through the victim succeed, and what
// the victim refuses, it refuses clearly.
func (b *brokenDisk) serve() {
	b.t.Helper()
	from := time.Now()
	b.until(readyTime, func(context.Context) error { // enough to tell 99 % by
		if n := len(b.watch.between(from, time.Now(), b.victim)); n < 100 {
			return fmt.Errorf("%d requests through %s", n, b.victim.Name)
		}
		return nil
	})
	b.watch.stop()
	b.watch.serves("the other nodes from the first failure on", b.watch.between(b.began, time.Now(), b.others...))
	var reads []sighting
	refused := map[string]int{}
	for _, s := range b.watch.between(from, time.Now(), b.victim) {
		if !s.Write {
			reads = append(reads, s)
		} else if !s.ok() {
			refused[fmt.Sprint(s.Status, " ", s.Code, " ", s.Outcome)]++
			if s.Status < 500 || s.Outcome != "not_applied" && s.Outcome != "unknown" || s.Took > witnessTimeout+slack {
				b.t.Errorf("not refused clearly and in time: %v", s)
			}
		}
	}
	b.watch.serves("reads through the node with the broken disk", reads)
	b.t.Logf("writes refused by the node with the broken disk: %v", refused)
}

// F31: the disk of one node fills up. Below its reserve the node refuses writes and the others go on with theirs; reads go on through it
// too. With room again it takes writes by itself and gets what it missed: without a restart, without a read. The same when the disk was
// filled by somebody else to the last byte, so that the journal could not be written any more.
func TestFullDiskStopsOneNodeAlone(t *testing.T) {
	long(t)
	needMounts(t)
	dir := filepath.Join(mountDir(t), "full")
	mountTmpfs(t, dir, "64m")
	b := withDisk(t, dir)
	pid := b.victim.PID()
	for _, round := range []struct {
		name string
		left func(reserve int64) int // of room, in the end
	}{
		{"disk down to its reserve", func(reserve int64) int { return int(reserve) + 1<<20 }},
		{"disk full to the last byte", func(int64) int { return 0 }},
	} {
		reserve := b.about(b.victim).Disk.Reserve
		if reserve < 1<<20 || reserve > 16<<20 {
			t.Fatalf("the reserve is %d bytes of 64 MiB, want at most a quarter", reserve)
		}
		b.failed(round.name)
		filler, err := ballast(dir, round.left(reserve))
		b.must(err)
		b.fill(func(ctx context.Context) error { return full(ctx, b.victim, true) })
		b.serve()
		m, err := page(b.victim).Metrics(t.Context())
		b.must(err)
		if m.Sum("rondo_disk_full") != 1 {
			t.Errorf("rondo_disk_full is %v on a full disk", m.Sum("rondo_disk_full"))
		}
		b.must(os.Remove(filler))
		freed := time.Now()
		b.until(readyTime, func(ctx context.Context) error { return full(ctx, b.victim, false) })
		b.ready(b.victim)
		b.load.note("%s: full no longer after %v, equal after %v more", round.name, time.Since(freed).Round(time.Millisecond), b.equal(repairTime).Round(time.Millisecond))
		b.healed(repairTime)
		if b.victim.PID() != pid {
			t.Errorf("%s was restarted: process %d, then %d", b.victim.Name, pid, b.victim.PID())
		}
	}
	b.written(b.load, 50)
	b.load.pass()
}

// F31: with a disk at its reserve under the only node, writes are answered with 507 and certainly not applied, reads as ever; and with room
// again, all as before.
func TestFullDiskOfTheOnlyNode(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(mountDir(t), "full")
	mountTmpfs(t, dir, "64m")
	c := loopback(t, 1)
	p := c.nodes[0]
	p.Data = filepath.Join(dir, "data")
	c.start()
	one := c.through(p)
	c.put(one, "key", "key", client.Options{})
	filler, err := ballast(dir, 1<<20)
	c.must(err)
	c.until(readyTime, func(ctx context.Context) error { return full(ctx, p, true) })
	for _, err := range []error{
		second(one.Put(t.Context(), loadBucket, "key", []byte("other"), client.Options{})),
		second(one.Put(t.Context(), loadBucket, "new", []byte("new"), client.Options{})),
		second(one.Delete(t.Context(), loadBucket, "key", client.Options{})),
	} {
		if problem := c.problemOf(err); problem.Status != http.StatusInsufficientStorage || problem.Code != "insufficient_storage" || problem.Outcome != "not_applied" {
			t.Errorf("a write to a full disk: %v, want 507 insufficient_storage, not applied", err)
		}
	}
	c.holds([]string{"key"}, "")
	c.absent([]string{"new"})
	c.must(os.Remove(filler))
	c.put(one, "new", "new", client.Options{})
	c.holds([]string{"key", "new"}, "")
}

// second is the second of two results.
func second[T any](_ T, err error) error { return err }

// F31: a node on an empty directory of a full disk does not start, and says why.
func TestFullDiskAtFirstStart(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(mountDir(t), "full")
	mountTmpfs(t, dir, "1m")
	c := loopback(t, 1)
	p := c.nodes[0]
	p.Data = filepath.Join(dir, "data")
	c.must(os.Mkdir(p.Data, 0o700))
	_, err := ballast(dir, 0)
	c.must(err)
	c.must(p.Start())
	code, err := p.Wait(20 * time.Second)
	c.must(err)
	if last := p.LogTail(3); code <= 0 || !strings.Contains(last, "no space left on device") {
		t.Errorf("exit code %d and the words:\n%s", code, last)
	}
}

// F34: fsync fails. The disk is an image in a file system that has no room left, so that writing to it is an input/output error, and the
// kernel takes the file system out of use. The store has failed for good at the first one and nothing is acknowledged after it; the others
// go on. The node tries to open its store again, and once the operator has mounted what the disk holds it succeeds: nobody restarts
// it, and nothing acknowledged is lost.
func TestFailingFsyncStopsOneNodeAlone(t *testing.T) {
	long(t)
	needMounts(t, "mkfs.ext4")
	dir := mountDir(t)
	under := filepath.Join(dir, "under")
	mountTmpfs(t, under, "32m")
	disk := newImage(t, filepath.Join(under, "disk.0"), filepath.Join(dir, "mnt"))
	b := withDisk(t, disk.mount)
	pid, before := b.victim.PID(), b.about(b.victim).Incarnation
	filler, err := ballast(under, 0)
	b.must(err)
	b.failed("disk failing soon")
	b.fill(func(context.Context) error {
		if !strings.Contains(b.victim.LogTail(100), "the store must be opened again") {
			return fmt.Errorf("the store of %s has not failed yet", b.victim.Name)
		}
		return nil
	})
	failed := time.Now()
	b.pass(5 * time.Second)
	b.watch.serves("the other nodes from the first failure on", b.watch.between(failed, time.Now(), b.others...))

	b.must(os.Remove(filler))
	b.must(disk.cut()) // what was synced, and nothing that was not
	b.load.note("the disk is mounted again; equal after %v", b.equal(repairTime).Round(time.Millisecond))
	b.ready(b.victim)
	b.healed(repairTime)
	if after := b.about(b.victim).Incarnation; b.victim.PID() != pid || after == before {
		t.Errorf("process %d, incarnation %s; before it was process %d, incarnation %s; want the same process, and another incarnation", b.victim.PID(), after, pid, before)
	}
	b.watch.stop()
	b.written(b.load, 50)
	b.load.pass()
}
