package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
	"github.com/rondodb/rondo/internal/verify"
)

// loadBucket is the bucket of the clients where a test looks into it.
const loadBucket = "load"

// damage is something that happens to the data directory of a node that is down.
type damage struct {
	name  string
	clean bool // stopped by SIGTERM, not killed
	do    func(dir string) error
	aside bool // what is left of the database is set aside, as db.damaged-N
}

var damages = []damage{
	{"bits flipped in tables", false, edit("*.ldb", flipTable), true},
	{"bit flipped in the journal after a clean stop", true, edit("*.log", flipMiddle), false},
	{"journal cut after a clean stop", true, edit("*.log", func(b []byte) []byte { return b[:len(b)/2] }), false},
	{"bit flipped in the manifest", false, edit("MANIFEST-*", flipMiddle), true},
	{"manifest cut", false, edit("MANIFEST-*", func(b []byte) []byte { return b[:len(b)*2/3] }), true},
	{"garbage in CURRENT", false, edit("CURRENT", func([]byte) []byte { return []byte("garbage") }), true},
	{"a table removed", false, removeFirst("*.ldb"), true},
	{"journals removed", false, removeFirst("*.log"), true},
	{"database removed, identity kept", false, func(dir string) error { return os.RemoveAll(filepath.Join(dir, "db")) }, false},
	{"directory wiped, identity put back", false, wipe, false},
}

// wipe leaves nothing of a data directory but who it is.
func wipe(dir string) error {
	identity, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "node.json"), identity, 0o600)
	}
	return err
}

// F32, F33: something in the data directory of one node is damaged while it is down. It starts, says so, and while the only other replica
// that has some keys is down, it and a replica that never had them tell nobody that they are not there. When all are back it gets what it
// lost from the others by itself: the replicas are equal within a minute, without a read and without an operator.
func TestDamagedDataDirectory(t *testing.T) {
	long(t)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			testDamage(t, d)
		})
	}
}

func testDamage(t *testing.T, d damage) {
	c := loopback(t, 3)
	c.start()
	first, behind, victim := c.nodes[0], c.nodes[1], c.nodes[2]
	l := c.newLoad(func(config *verify.Config) {
		config.Bucket = loadBucket
		config.Pace = 5 * time.Millisecond
	})
	l.begin()
	c.written(l, 100)
	c.kill(behind)
	narrow := c.writeKeys("table", 30)
	c.stop(victim) // what the journal held is in a table after the next start
	c.restart(victim)
	narrow = append(narrow, c.writeKeys("journal", 30)...)
	before := c.about(victim).Incarnation
	if d.clean {
		c.stop(victim)
	} else {
		c.kill(victim)
	}
	c.kill(first)
	c.must(d.do(victim.Data))
	c.must(errors.Join(behind.Start(), victim.Start()))
	l.note("%s is back with damage", victim.Name)
	absent, right, refused := c.asked(narrow, behind, victim)
	t.Logf("without the third replica %d of %d acknowledged writes are found, %d reads are refused, %d told not to be there", right, len(narrow), refused, absent)
	if absent > 0 {
		t.Errorf("%d keys which a quorum had acknowledged were told not to be there", absent)
	}

	w := c.watch(first, behind)
	c.must(first.Start())
	back := time.Now()
	l.note("all replicas are equal after %v", c.equal(repairTime).Round(time.Millisecond))
	c.ready(c.nodes...)
	c.whole(readyTime)
	c.delivered(repairTime)
	c.holds(narrow, "")
	c.written(l, 50)
	healed := time.Now()
	c.until(readyTime, func(context.Context) error { // enough to tell 99 % by
		if n := len(w.between(healed, time.Now(), first, behind)); n < 100 {
			return fmt.Errorf("%d requests through the other nodes", n)
		}
		return nil
	})
	w.stop()
	w.show("the other nodes while the damaged one was filled again", w.between(back, healed, first, behind))
	w.serves("the other nodes afterwards", w.between(healed, time.Now(), first, behind))
	c.told(victim, before, d.aside)
	l.pass()
}

// told fails the test unless a node has said that it lost data: it is another actor now, its log names the loss, and what is left of
// the database stands aside where it could not be used.
func (c *cluster) told(p *proc.Process, before string, aside bool) {
	c.t.Helper()
	if after := c.about(p).Incarnation; after == before {
		c.t.Errorf("%s counts on as incarnation %s with less than it held", p.Name, after)
	}
	log, err := os.ReadFile(p.Log)
	c.must(err)
	if !strings.Contains(string(log), "level=ERROR") && !strings.Contains(string(log), "level=WARN") {
		c.t.Errorf("%s says nothing of its loss", p.Name)
	}
	left, err := filepath.Glob(filepath.Join(p.Data, "db.damaged-*"))
	c.must(err)
	if aside != (len(left) > 0) {
		c.t.Errorf("%s has set aside %q, want some: %v", p.Name, left, aside)
	}
}

// F32: bits flip in the tables of a node that runs, under load. It serves none of them; the other nodes go on; it notices, builds a
// new database out of what is sound and what the others have, in the same process, and the replicas are equal within a minute.
func TestTablesDamagedWhileRunning(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.flags("--cache", "1MiB") // so that reads reach the disk
	c.start()
	victim, others := c.nodes[2], c.nodes[:2]
	l := c.newLoad(func(config *verify.Config) { config.Bucket = loadBucket })
	l.begin()
	bulk := c.writeBulk(20 << 20)
	c.stop(victim) // what the journal held is in tables after the next start
	c.restart(victim)
	c.whole(readyTime)
	pid, before := victim.PID(), c.about(victim).Incarnation
	w := c.watch(others...)
	flipped := time.Now()
	c.must(flipInPlace(victim.Data))
	l.note("bits flip in the tables of %s", victim.Name)
	c.until(repairTime, func(ctx context.Context) error { // reads, as clients do all the time
		c.readBulk(bulk, others...)
		m, err := page(victim).Metrics(ctx)
		if err != nil {
			return err
		}
		if a, err := page(victim).About(ctx); err != nil || a.Incarnation == before {
			return fmt.Errorf("%s has not opened a new database yet; %v damaged objects", victim.Name, m.Sum("rondo_damaged_objects_total")+m.Sum("rondo_store_corrupt_objects_total"))
		}
		return nil
	})
	noticed := time.Since(flipped)
	l.note("noticed after %v, equal after %v more", noticed.Round(time.Millisecond), c.equal(repairTime).Round(time.Millisecond))
	c.ready(victim)
	c.readBulk(bulk, c.nodes...)
	w.stop()
	w.serves("the other nodes, all the time", w.between(flipped, time.Now(), others...))
	if victim.PID() != pid || !victim.Running() {
		t.Errorf("process %d of %s has ended: it should go on by itself", pid, victim.Name)
	}
	c.told(victim, before, true)
	l.pass()
}

// bulkSize is the size of one value of a bulk.
const bulkSize = 16 << 10

// bulkValue is what a key of a bulk holds: text that does not compress.
func bulkValue(key string) []byte {
	rng := rand.New(rand.NewPCG(32, uint64(len(key))+uint64(key[len(key)-1])<<8))
	b := make([]byte, bulkSize)
	for i := range b {
		b[i] = 'a' + byte(rng.IntN(26))
	}
	return append([]byte(key+" "), b...)
}

// writeBulk writes so many bytes of large values to all replicas.
func (c *cluster) writeBulk(size int) (keys []string) {
	c.t.Helper()
	keys = numbered("bulk", size/bulkSize)
	one := c.through(c.nodes[0])
	for _, key := range keys {
		c.until(readyTime, func(ctx context.Context) error {
			_, err := one.Put(ctx, "bulk", key, bulkValue(key), client.Options{W: "all", DW: "0", ContentType: "text/plain"})
			return err
		})
	}
	return keys
}

// readBulk reads all of a bulk with quorums through nodes in turn. Every value is right, each time.
func (c *cluster) readBulk(keys []string, through ...*proc.Process) {
	c.t.Helper()
	var clients []*client.Client
	for _, p := range through {
		one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: witnessTimeout})
		c.must(err)
		defer one.Close()
		clients = append(clients, one)
	}
	failed := 0
	for i, key := range keys {
		object, err := clients[i%len(clients)].Get(c.t.Context(), "bulk", key, client.Options{R: "quorum"})
		var problem *client.Error
		switch {
		case errors.As(err, &problem) && problem.Code == client.CodeKeyNotFound:
			c.t.Errorf("%s is not found", key)
		case err != nil:
			if failed++; failed <= 3 {
				c.t.Logf("%s: %v", key, err)
			}
		case len(object.Values) != 1 || !bytes.Equal(object.Values[0].Data, bulkValue(key)):
			c.t.Errorf("%s: wrong value", key)
		}
	}
	if failed > len(keys)/100 {
		c.t.Errorf("%d of %d reads failed", failed, len(keys))
	}
}

// flipInPlace flips bits in the tables of a database that is open: their files stay the same ones.
func flipInPlace(dir string) error {
	files, err := databaseFiles(dir, "*.ldb")
	if err != nil {
		return err
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(flipTable(b), 0)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// F33: a node runs while bits flip in its journal, manifest or CURRENT. It notices nothing, for it reads them at its start alone; killed and
// started again it knows what to do.
func TestDirectoryDamagedWhileRunning(t *testing.T) {
	long(t)
	for _, d := range []damage{
		{"manifest", false, edit("MANIFEST-*", flipMiddle), true},
		{"CURRENT", false, edit("CURRENT", func(b []byte) []byte { b[0] ^= 0x10; return b }), true},
		{"tables", false, edit("*.ldb", flipTable), true},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			c := loopback(t, 3)
			l, w := c.underLoad(time.Second)
			victim, others := c.nodes[2], c.nodes[:2]
			c.stop(victim) // what the journal held is in a table after the next start
			c.restart(victim)
			c.whole(readyTime)
			before := c.about(victim).Incarnation
			began := time.Now()
			c.must(d.do(victim.Data))
			c.pass(2 * time.Second)
			c.kill(victim)
			c.must(victim.Start())
			l.note("equal %v after the start", c.equal(repairTime).Round(time.Millisecond))
			c.ready(victim)
			c.pass(2 * time.Second)
			w.stop()
			w.serves("the other nodes", w.between(began, time.Now(), others...))
			c.told(victim, before, d.aside)
			l.pass()
		})
	}
}

// writeKeys writes keys of its own through the first node, with a quorum, each with its name as the value. Where another node is down, the
// two that are up are the only ones that have them: whoever asks another two of the three learns of them from one replica alone.
func (c *cluster) writeKeys(prefix string, count int) (keys []string) {
	c.t.Helper()
	one, err := client.New(client.Config{Nodes: []string{c.nodes[0].URL()}, Timeout: 2 * time.Second})
	c.must(err)
	defer one.Close()
	for i := range count {
		key := fmt.Sprint(prefix, "-", i)
		c.until(readyTime, func(ctx context.Context) error { // a node that has just come back may not be asked by the others yet
			_, err := one.Put(ctx, loadBucket, key, []byte(key), client.Options{W: "quorum"})
			return err
		})
		keys = append(keys, key)
	}
	return keys
}

// written waits until the load has had so many more writes acknowledged.
func (c *cluster) written(l *load, count int) {
	c.t.Helper()
	done := func() (n int) {
		for _, o := range l.v.History() {
			if o.Kind != "read" && o.Outcome == "ok" {
				n++
			}
		}
		return n
	}
	before := done()
	c.until(20*time.Second, func(context.Context) error {
		if n := done() - before; n < count {
			return fmt.Errorf("%d of %d writes acknowledged", n, count)
		}
		return nil
	})
}

// stop ends a node as SIGTERM does, and expects a clean stop.
func (c *cluster) stop(p *proc.Process) {
	c.t.Helper()
	if code, err := p.Stop(20 * time.Second); err != nil || code != 0 {
		c.t.Fatalf("stop %s: exit code %d, %v", p.Name, code, err)
	}
}

// notReady waits until /readyz of a node answers 503 and why.
func (c *cluster) notReady(p *proc.Process, why string) {
	c.t.Helper()
	one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: time.Second})
	c.must(err)
	defer one.Close()
	c.until(readyTime, func(ctx context.Context) error {
		err := one.Ready(ctx)
		var problem *client.Error
		if !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || !strings.Contains(string(problem.Body), why) {
			return fmt.Errorf("/readyz: %w, want 503 with %q", cmpErr(err), why)
		}
		return nil
	})
}

// cmpErr gives an error where there is none.
func cmpErr(err error) error {
	if err == nil {
		return errors.New("200")
	}
	return err
}

// edit rewrites the files of the database that match. None is an error.
func edit(pattern string, change func([]byte) []byte) func(dir string) error {
	return func(dir string) error {
		files, err := databaseFiles(dir, pattern)
		for _, file := range files {
			b, rerr := os.ReadFile(file)
			if rerr == nil {
				rerr = os.WriteFile(file, change(b), 0o600)
			}
			err = errors.Join(err, rerr)
		}
		return err
	}
}

// removeFirst removes the oldest file of the database that matches.
func removeFirst(pattern string) func(dir string) error {
	return func(dir string) error {
		files, err := databaseFiles(dir, pattern)
		if err != nil {
			return err
		}
		return os.Remove(files[0])
	}
}

// databaseFiles are the files of a node's database that match, oldest first, at least one.
func databaseFiles(dir, pattern string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "db", pattern))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no %s in %s", pattern, dir)
	}
	slices.Sort(files)
	return files, err
}

func flipMiddle(b []byte) []byte {
	b[len(b)/2] ^= 0x10
	return b
}

// flipTable hits the data blocks of a table here and there, not its index and footer at the end.
func flipTable(b []byte) []byte {
	rng := rand.New(rand.NewPCG(32, 1))
	for range 1 + len(b)/16384 {
		b[rng.IntN(len(b)*3/4)] ^= 1 << rng.IntN(8)
	}
	return b
}
