package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/inspect"
)

// What an exchange may cost, over both peers together.
const (
	rootsOnly  = 64 << 10 // bytes where nothing differs: the roots of all trees, both ways
	perKey     = 4 << 10  // bytes of each object that differs, with its share of the tree
	perKeyRead = 64       // objects listed for each that differs: those in the same leaf, twice
)

// Merkle exchange finds what differs at a cost that goes with the difference and not with the data; with nothing different only roots are
// compared. A node that is started again has its trees without reading its objects. 100,000 keys of 100 bytes, a million with RONDO_FULL=1.
func TestExchangeCost(t *testing.T) {
	long(t)
	keys := sized(100_000, 1_000_000)
	nodes := startCluster(t, 3, "--repair", "none") // only what the test asks for
	away, rest := nodes[2], nodes[:2]
	pages := pages(nodes...)
	took := write(t, "key", "dw=0", keys, nodes...)
	t.Logf("%d keys written in %v", keys, took.Round(time.Millisecond))
	for i := range pages { // what came too late to a replica is sent again by now
		if _, err := pages[i].Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := inspect.Equal(t.Context(), pages); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "\n| keys that differ, of %d | bytes, both ways | objects listed | objects moved | seconds |\n|---|---|---|---|---|\n", keys)
	base := int64(0)
	for _, differing := range []int{0, 10, 1000, sized(10_000, 100_000)} {
		if differing > 0 {
			away.drain()
			noted(t, 2, rest...)
			write(t, "key", "dw=0", differing, rest...)
			away.start()
			away.waitReady(30 * time.Second)
			noted(t, 3, nodes...)
			if err := inspect.Equal(t.Context(), pages); err == nil {
				t.Fatalf("nothing differs after %d keys were changed", differing)
			}
		}
		p, err := pages[2].Repair(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := inspect.Equal(t.Context(), pages); err != nil {
			t.Errorf("after a repair of %d differing keys: %v", differing, err)
		}
		fmt.Fprintf(&table, "| %d | %d | %d | %d | %.3f |\n", differing, p.Bytes, p.Read, p.Sent+p.Received, p.Seconds)
		switch {
		case differing == 0:
			base = p.Bytes
			if p.Bytes > rootsOnly || p.Read+p.Sent+p.Received > 0 || p.Different > 0 {
				t.Errorf("a repair with nothing different: %+v, want roots only", p)
			}
		case p.Bytes-base > int64(differing)*perKey:
			t.Errorf("%d differing keys cost %d bytes, want %d at most", differing, p.Bytes-base, differing*perKey)
		case p.Read > int64(differing)*perKeyRead:
			t.Errorf("%d differing keys had %d objects listed, want %d at most", differing, p.Read, differing*perKeyRead)
		case p.Received < int64(differing) || p.Sent+p.Received > 3*int64(differing):
			t.Errorf("%d differing keys: %d objects sent, %d received", differing, p.Sent, p.Received)
		}
	}
	t.Log(table.String())
	restartWithoutScan(t, away, pages[2])
}

// restartWithoutScan starts a node again, now with exchanges, and wants it ready and compared with all others without having read its
// objects.
func restartWithoutScan(t *testing.T, p *process, page inspect.Node) {
	t.Helper()
	p.drain()
	held := int64(0)
	err := filepath.WalkDir(filepath.Join(p.Data, "db"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				held += info.Size()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"--repair", "exchange"}
	began := time.Now()
	p.start()
	p.waitReady(30 * time.Second)
	ready := time.Since(began)
	compared := holdFor(t, time.Minute, func(ctx context.Context) error {
		a, err := page.About(ctx)
		if err == nil && (a.Repair.Exchanges < 2 || a.Repair.NeverEqual > 0) {
			err = fmt.Errorf("%d exchanges, %d partitions not compared yet", a.Repair.Exchanges, a.Repair.NeverEqual)
		}
		return err
	})
	m, err := page.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	read := bytesRead(t, p.PID())
	t.Logf("ready %v after the start, every partition compared with both others %v later: %d objects verified, %.0f read from the store; %d KiB read of %d KiB on disk",
		ready.Round(time.Millisecond), compared.Round(time.Millisecond), int(m.Sum("rondo_verified_objects_total")), m.Sum("rondo_store_gets_total"), read>>10, held>>10)
	if m.Sum("rondo_verified_objects_total") > 0 {
		t.Errorf("%v objects were verified for the first exchange", m.Sum("rondo_verified_objects_total"))
	}
	if full() && read > held/2 { // with less data the journal that is replayed is most of it
		t.Errorf("%d bytes were read, of %d on disk: the objects were scanned", read, held)
	}
}

// bytesRead is how much a process has read from files and sockets.
func bytesRead(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "rchar: ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		t.Fatalf("read /proc/%d/io: %v", pid, err)
	}
	return n
}
