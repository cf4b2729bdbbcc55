package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
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

// Ends of a start after damage.
type reaction string

const (
	refuses  reaction = "refuses to start and says what to do"
	damaged  reaction = "starts, and casts no read votes"
	partly   reaction = "serves what is sound, and errors for the rest"
	stranger reaction = "starts as a new node that owns nothing"
)

// F32, F33: something in the data directory of one node is damaged while it is down, and it is started again under load. No client of
// any node gets a wrong answer or a false not-found, the others go on, and the way back that the documentation tells brings
// everything back.
func TestDamagedDataDirectory(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name  string
		clean bool // stopped by SIGTERM, not killed
		do    func(dir string) error
		want  reaction
	}{
		{"bits flipped in tables", false, edit("*.ldb", flipTable), partly},
		{"bit flipped in the journal after a clean stop", true, edit("*.log", flipMiddle), damaged},
		{"journal cut after a clean stop", true, edit("*.log", func(b []byte) []byte { return b[:len(b)/2] }), damaged},
		{"bit flipped in the manifest", false, edit("MANIFEST-*", flipMiddle), refuses},
		{"manifest cut", false, edit("MANIFEST-*", func(b []byte) []byte { return b[:len(b)*2/3] }), refuses},
		{"garbage in CURRENT", false, edit("CURRENT", func(b []byte) []byte { return []byte("garbage") }), refuses},
		{"a table removed", false, removeFirst("*.ldb"), refuses},
		{"journals removed", false, removeFirst("*.log"), damaged},
		{"database removed, identity kept", false, func(dir string) error { return os.RemoveAll(filepath.Join(dir, "db")) }, damaged},
		{"directory wiped", false, os.RemoveAll, stranger},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testDamage(t, c.clean, c.do, c.want)
		})
	}
}

func testDamage(t *testing.T, clean bool, do func(dir string) error, want reaction) {
	c := loopback(t, 3)
	c.start()
	behind, victim, others := c.nodes[1], c.nodes[2], c.nodes[:2]
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
	c.restart(behind)
	c.inUse()
	if clean {
		c.stop(victim)
	} else {
		c.kill(victim)
	}
	identity, err := os.ReadFile(filepath.Join(victim.Data, "node.json"))
	c.must(err)
	c.must(do(victim.Data))

	w := c.watch(others...)
	began := time.Now()
	c.must(victim.Start())
	l.note("%s is back with damage", victim.Name)
	switch want {
	case refuses:
		c.refused(victim)
	case damaged:
		c.notReady(victim, "less than it held")
	case stranger:
		c.notReady(victim, "not a member")
	case partly:
		c.ready(victim)
	}
	c.found(narrow, behind, victim)
	c.written(l, 50)
	c.until(readyTime, func(context.Context) error { // enough to tell 99 % by
		if n := len(w.between(began, time.Now(), others...)); n < 100 {
			return fmt.Errorf("%d requests through the other nodes", n)
		}
		return nil
	})
	if want == partly {
		c.errs(l, victim)
	}
	w.stop()
	w.serves("the other nodes", w.between(began, time.Now(), others...))
	l.end()

	// The way back. The loss is accepted while nobody relies on this node's votes.
	if victim.Running() {
		c.stop(victim)
	}
	switch want {
	case refuses, partly:
		c.must(os.Rename(filepath.Join(victim.Data, "db"), filepath.Join(t.TempDir(), "aside")))
	case stranger:
		c.must(os.RemoveAll(victim.Data))
		c.must(os.Mkdir(victim.Data, 0o700))
		c.must(os.WriteFile(filepath.Join(victim.Data, "node.json"), identity, 0o600))
	}
	c.wayBack(victim)
	l.begin()
	c.written(l, 20)
	l.pass()
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

// inUse waits until every node asks every other: one that was away is left alone for up to some seconds after it is back.
func (c *cluster) inUse() {
	c.t.Helper()
	c.whole(readyTime)
	for _, p := range c.nodes {
		one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: 2 * time.Second})
		c.must(err)
		c.until(readyTime, func(ctx context.Context) error {
			_, err := one.Put(ctx, "scratch", p.Name, []byte("x"), client.Options{W: "all"})
			return err
		})
		one.Close()
	}
}

// found reads keys with a quorum through these nodes in turn, each key once, since a read brings replicas up to date. The value is
// right, or an error that claims nothing.
func (c *cluster) found(keys []string, nodes ...*proc.Process) {
	c.t.Helper()
	read := 0
	for i, key := range keys {
		p := nodes[i%len(nodes)]
		one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: 2 * time.Second})
		c.must(err)
		object, err := one.Get(c.t.Context(), loadBucket, key, client.Options{R: "quorum"})
		one.Close()
		var problem *client.Error
		switch {
		case errors.As(err, &problem) && problem.Code == client.CodeKeyNotFound:
			c.t.Errorf("%s, which a quorum had acknowledged, is not found through %s", key, p.Name)
		case err == nil && (len(object.Values) != 1 || string(object.Values[0].Data) != key):
			c.t.Errorf("%s through %s: %s", key, p.Name, object.Raw)
		case err == nil:
			read++
		}
	}
	if read < len(keys)/3 {
		c.t.Errorf("only %d of %d keys were answered: nothing was tested", read, len(keys))
	}
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

// refused waits until a node has ended by itself with a failure whose last words tell what to do.
func (c *cluster) refused(p *proc.Process) {
	c.t.Helper()
	code, err := p.Wait(20 * time.Second)
	c.must(err)
	if last := p.LogTail(3); code <= 0 || !strings.Contains(last, "move the folder db out of the data directory") {
		c.t.Errorf("%s ended with exit code %d and the words:\n%s", p.Name, code, last)
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

// errs fails the test unless the replica of the node answers for at least one key of the load with an error, as one does that meets
// damage.
func (c *cluster) errs(l *load, p *proc.Process) {
	c.t.Helper()
	one, err := client.New(client.Config{Nodes: []string{c.nodes[0].URL()}, Timeout: 2 * time.Second})
	c.must(err)
	defer one.Close()
	var keys []string
	for _, o := range l.v.History() {
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	bad := 0
	for _, key := range keys {
		e, err := one.Explain(c.t.Context(), loadBucket, key)
		c.must(err)
		if slices.ContainsFunc(e.Replicas, func(r client.Replica) bool { return r.Node == p.Name && r.Error != "" }) {
			bad++
		}
	}
	c.t.Logf("the replica of %s errs for %d of %d keys", p.Name, bad, len(keys))
	if bad == 0 {
		c.t.Error("no key was damaged: nothing was tested")
	}
}

// wayBack is what the documentation tells to do with a node that has lost data: it is started once with --accept-loss, and everything
// is read with r=all.
func (c *cluster) wayBack(p *proc.Process) {
	c.t.Helper()
	args := p.Args
	p.Args = append(slices.Clone(args), "--accept-loss")
	c.restart(p)
	p.Args = args
	c.whole(readyTime)
	c.exportAll()
}

// exportAll reads every key of the load with r=all, by the command that the documentation names.
func (c *cluster) exportAll() {
	c.t.Helper()
	c.until(readyTime, func(ctx context.Context) error { // a node that has just come back may not be asked by the others yet
		export := exec.CommandContext(ctx, binary, "export", "--r", "all", "--node", c.nodes[0].URL(), loadBucket)
		var said strings.Builder
		export.Stderr = &said
		if err := export.Run(); err != nil {
			return fmt.Errorf("rondo export --r all: %w: %s", err, said.String())
		}
		return nil
	})
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
