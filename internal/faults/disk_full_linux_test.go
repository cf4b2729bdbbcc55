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

// fill writes through another node until the victim's store has failed for this reason and says so.
func (b *brokenDisk) fill(reason string) {
	b.t.Helper()
	one, err := client.New(client.Config{Nodes: []string{b.victim.URL()}, Timeout: 2 * time.Second})
	b.must(err)
	defer one.Close()
	n := 0
	b.until(readyTime, func(ctx context.Context) error {
		for range 10 {
			n++
			if err := b.write(ctx, fmt.Sprint("filling-", n)); err != nil {
				return err
			}
		}
		err := one.Ready(ctx)
		var problem *client.Error
		if !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || !strings.Contains(string(problem.Body), reason) {
			return fmt.Errorf("/readyz of %s: %w, want 503 with %q", b.victim.Name, cmpErr(err), reason)
		}
		return nil
	})
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

// F31: the disk of one node fills up. The others go on, reads go on through it too, and nothing acknowledged is lost. With the disk still
// full the node does not start, and says why; with room again it does, and all is well. That a running node takes writes again by
// itself when room comes back waits for the store that opens itself again.
func TestFullDiskStopsOneNodeAlone(t *testing.T) {
	long(t)
	needMounts(t)
	dir := filepath.Join(mountDir(t), "full")
	mountTmpfs(t, dir, "24m")
	b := withDisk(t, dir)
	filler, err := ballast(dir, 512<<10)
	b.must(err)
	b.failed("disk full soon")
	b.fill("no space left on device")
	b.serve()

	if _, err := b.victim.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	more, err := os.Create(filepath.Join(dir, "more")) // what the stop has freed
	b.must(err)
	for err = nil; err == nil; {
		_, err = more.Write(make([]byte, 4096))
	}
	b.must(more.Close())
	b.must(b.victim.Start())
	code, err := b.victim.Wait(20 * time.Second)
	b.must(err)
	if last := b.victim.LogTail(3); code <= 0 || !strings.Contains(last, "no space left on device") {
		t.Errorf("started on a full disk: exit code %d and the words:\n%s", code, last)
	}
	b.must(errors.Join(os.Remove(filler), os.Remove(more.Name())))
	b.restart(b.victim)
	b.whole(readyTime)
	b.written(b.load, 50)
	b.load.pass()
}

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

// F34: fsync fails. The disk is an image in a file system that has no room left, so that writing to it is an input/output error. The
// store fails for good at the first one, refuses writes, and goes on reading; nothing acknowledged is lost when it starts again from
// what the disk holds.
func TestFailingFsyncStopsOneNodeAlone(t *testing.T) {
	long(t)
	needMounts(t, "mkfs.ext4")
	dir := mountDir(t)
	under := filepath.Join(dir, "under")
	mountTmpfs(t, under, "32m")
	disk := newImage(t, filepath.Join(under, "disk.0"), filepath.Join(dir, "mnt"))
	b := withDisk(t, disk.mount)
	filler, err := ballast(under, 0)
	b.must(err)
	b.failed("disk failing soon")
	b.fill("store has failed and refuses writes") // the kernel tells it as an input/output error, or by its cause: no space
	b.serve()

	b.kill(b.victim)
	b.must(os.Remove(filler))
	b.must(disk.cut()) // what was synced, and nothing that was not
	b.restart(b.victim)
	b.whole(readyTime)
	b.written(b.load, 50)
	b.load.pass()
}
