package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
	"github.com/rondodb/rondo/internal/verify"
)

// powered is a cluster whose nodes have a disk each whose power can be cut.
type powered struct {
	*cluster
	disks map[*proc.Process]*image
}

// newPowered starts a cluster of three.
func newPowered(t *testing.T) *powered {
	t.Helper()
	needMounts(t, "mkfs.ext4", "cp")
	dir := mountDir(t) // before the cluster: its disks go after its processes
	c := &powered{loopback(t, 3), map[*proc.Process]*image{}}
	for _, p := range c.nodes {
		disk := newImage(t, filepath.Join(dir, p.Name+".0"), filepath.Join(dir, p.Name))
		p.Data = filepath.Join(disk.mount, "data")
		c.disks[p] = disk
	}
	c.start()
	return c
}

// cut takes the power from nodes at once. Their disks are as the cut left them; nothing is started.
func (c *powered) cut(nodes ...*proc.Process) {
	c.t.Helper()
	c.kill(nodes...)
	var group sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, p := range nodes {
		group.Go(func() { errs[i] = c.disks[p].cut() })
	}
	group.Wait()
	c.must(errors.Join(errs...))
}

// cycles cuts the power of all nodes under load, again and again, and returns what the load's clients were told meanwhile.
func (c *powered) cycles(l *load, count int) {
	c.t.Helper()
	rng := rand.New(rand.NewPCG(4, uint64(count)))
	for i := range count {
		l.begin()
		wait(c.t.Context(), 500*time.Millisecond+time.Duration(rng.IntN(700))*time.Millisecond)
		c.cut(c.nodes...)
		l.v.Note(fmt.Sprintf("power cut %d", i+1))
		l.end() // every write under way has its answer, or none
		c.restart(c.nodes...)
		c.readable(l.v.History())
	}
}

// readable reads every key that the history names with a quorum, through each node in turn, and fails the test where one cannot
// be read. What it shows is for the checker to judge.
func (c *powered) readable(history []check.Op) {
	c.t.Helper()
	var clients []*client.Client
	for _, p := range c.nodes {
		one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: 5 * time.Second})
		c.must(err)
		defer one.Close()
		clients = append(clients, one)
	}
	var keys []string
	for _, o := range history {
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	for i, key := range slices.Compact(keys) {
		c.until(10*time.Second, func(ctx context.Context) error { // a node that has just come back may not be seen by the others yet
			_, err := clients[i%len(clients)].Get(ctx, loadBucket, key, client.Options{R: "quorum"})
			var problem *client.Error
			if errors.As(err, &problem) && problem.Code == client.CodeKeyNotFound {
				return nil
			}
			return err
		})
	}
}

// outcomes counts the writes of a history by what became of them.
func outcomes(ops []check.Op) string {
	count := map[check.Outcome]int{}
	for _, o := range ops {
		if o.Kind != check.Read {
			count[o.Outcome]++
		}
	}
	return fmt.Sprintf("%d writes acknowledged, %d unknown, %d refused", count[check.OK], count[check.Unknown], count[check.Fail])
}

// broken counts the violations of a report by rule.
func broken(r check.Report) map[check.Rule]int {
	count := map[check.Rule]int{}
	for _, v := range r.Violations {
		count[v.Rule]++
	}
	return count
}

// F4: all nodes lose power at once, under load, 20 times. No write that was acknowledged with the default durability is lost.
func TestPowerLossOfAllNodesLosesNothingAcknowledged(t *testing.T) {
	long(t)
	c := newPowered(t)
	l := c.newLoad(faster)
	const cuts = 20
	began := time.Now()
	c.cycles(l, cuts)
	took := time.Since(began)
	result := l.pass()
	t.Logf("%d cuts, %v each: %s, %d lost", cuts, (took / cuts).Round(10*time.Millisecond), outcomes(result.History), broken(result.Report)[check.Lost])
}

// faster has a cut meet more writes under way.
func faster(config *verify.Config) {
	config.Bucket = loadBucket
	config.Pace = 5 * time.Millisecond
}

// The same with dw=0, where an acknowledgement promises nothing about disks: writes are lost, and the checker says so. So
// the test above can fail.
func TestPowerLossTestFindsWritesThatWereNotSynced(t *testing.T) {
	long(t)
	c := newPowered(t)
	l := c.newLoad(func(config *verify.Config) {
		faster(config)
		config.Options = client.Options{DW: "0"}
	})
	const cuts = 3
	c.cycles(l, cuts)
	result := l.finish()
	t.Logf("%d cuts with dw=0: %s, broken: %v", cuts, outcomes(result.History), broken(result.Report))
	if broken(result.Report)[check.Lost] == 0 {
		t.Error("no write was found lost: the test cannot see what it is there to see")
	}
}

// F4: one node loses power while the others live on. What it alone acknowledged as on its disk (w=1, dw=1) is on its disk.
func TestPowerLossOfOneNodeKeepsWhatItAloneAcknowledged(t *testing.T) {
	long(t)
	c := newPowered(t)
	victim, others := c.nodes[0], c.nodes[1:]
	l := c.newLoad(func(config *verify.Config) { config.Bucket = loadBucket })
	one, err := client.New(client.Config{Nodes: []string{victim.URL()}, Timeout: 2 * time.Second})
	c.must(err)
	defer one.Close()
	total := 0
	for round := range 5 {
		l.begin()
		acked := c.writeAlone(one, fmt.Sprint("round", round), func() { c.cut(victim) })
		total += len(acked)
		c.kept(victim, others, acked)
		c.ready(victim)
		l.end()
	}
	l.pass()
	t.Logf("5 cuts of one node, %d writes acknowledged by its disk alone", total)
}

// aloneAtLeast is how many writes a node acknowledges before its power is cut.
const aloneAtLeast = 100

// writeAlone writes key after key through one node with w=1 and dw=1, calls cut when there are enough that the node acknowledged as on
// its own disk, and returns all of those.
func (c *powered) writeAlone(one *client.Client, prefix string, cut func()) (acked []string) {
	c.t.Helper()
	var mu sync.Mutex
	stop := background(c.t.Context(), func(ctx context.Context) {
		var group sync.WaitGroup
		for w := range 4 {
			group.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					key := fmt.Sprint(prefix, "-", w, "-", i)
					written, err := one.Put(ctx, "alone", key, []byte(key), client.Options{W: "1", DW: "1", FullReceipt: true})
					if err != nil {
						wait(ctx, pollTick)
						continue
					}
					if ownDisk(written.Receipt) {
						mu.Lock()
						acked = append(acked, key)
						mu.Unlock()
					}
				}
			})
		}
		group.Wait()
	})
	defer stop() // also where the test ends here
	c.until(20*time.Second, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if len(acked) < aloneAtLeast {
			return fmt.Errorf("%d writes acknowledged", len(acked))
		}
		return nil
	})
	cut()
	stop()
	return acked
}

// ownDisk tells whether the receipt says that the coordinator's own disk has the write.
func ownDisk(r client.Receipt) bool {
	return slices.ContainsFunc(r.Replicas, func(part client.ReplicaReceipt) bool {
		return part.Node == r.Coordinator && part.OK && part.Durable
	})
}

// kept starts the node again with the others frozen, so that none can bring anything back, and fails the test where its own replica
// lacks one of these keys.
func (c *powered) kept(victim *proc.Process, others []*proc.Process, keys []string) {
	c.t.Helper()
	for _, p := range others {
		c.must(p.Pause())
	}
	c.must(victim.Start())
	one, err := client.New(client.Config{Nodes: []string{victim.URL()}, Timeout: time.Second})
	c.must(err)
	defer one.Close()
	c.until(readyTime, one.Live)
	var missing []string
	for _, key := range keys {
		object, err := one.Get(c.t.Context(), "alone", key, client.Options{R: "1"})
		if err != nil || len(object.Values) != 1 || string(object.Values[0].Data) != key {
			missing = append(missing, fmt.Sprintf("%s: %+v, %v", key, object, err))
		}
	}
	for _, p := range others {
		c.must(p.Resume())
	}
	if len(missing) > 0 {
		c.t.Fatalf("%d of %d keys that %s had acknowledged as on its disk are not there:\n%s", len(missing), len(keys), victim.Name, missing[0])
	}
}
