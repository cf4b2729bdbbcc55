package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

// direct calls the handlers of memberships in the same process.
type direct struct {
	mu    sync.Mutex
	nodes map[ring.NodeID]*Membership
}

type directFrom struct {
	*direct
	from ring.NodeID
}

func (d directFrom) Call(_ context.Context, to ring.NodeID, kind string, payload []byte) ([]byte, error) {
	d.mu.Lock()
	m := d.nodes[to]
	d.mu.Unlock()
	if m == nil {
		return nil, errors.New("not there")
	}
	if kind == callLayout {
		return m.HandleLayout(), nil
	}
	return m.HandleForm(d.from, payload)
}

func TestThreeNodesOnRealSockets(t *testing.T) {
	d := &direct{nodes: map[ring.NodeID]*Membership{}}
	var all []*Membership
	var join []string
	for i := range 3 {
		id := testID(i + 1)
		m, err := New(Config{
			Self: id, Name: fmt.Sprintf("n%d", i+1), Cluster: "sockets", HTTPAddr: "127.0.0.1:1", PeerAddr: "127.0.0.1:2",
			Bind: "localhost:0", Expect: 3, Join: join, Partitions: 16, Meta: &memStore{records: map[string][]byte{}}, Peers: directFrom{d, id},
		})
		if err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		d.nodes[id] = m
		d.mu.Unlock()
		if err := m.Open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		if !strings.HasPrefix(m.GossipAddr(), "127.0.0.1:") {
			t.Errorf("bound to %s", m.GossipAddr())
		}
		join = []string{strings.Replace(m.GossipAddr(), "127.0.0.1", "localhost", 1)}
		all = append(all, m)
	}
	waitFor(t, "ring", func() bool {
		for _, m := range all {
			if ok, _ := m.Ready(); !ok || m.Layout().Hash() != all[0].Layout().Hash() {
				return false
			}
		}
		return true
	})
	if err := all[2].Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "leave", func() bool { return !all[0].Alive(testID(3)) })
	if s := all[0].Stats(); s.Members != 3 || s.Dead != 1 {
		t.Errorf("got %+v", s)
	}
}

// On every interface a node needs an address that it can tell to others.
func TestAdvertisedAddress(t *testing.T) {
	for _, c := range []struct{ bind, advertise, want string }{
		{"0.0.0.0:0", "", "192.0.2.7"},
		{":0", "", "192.0.2.7"},
		{"127.0.0.1:0", "", "127.0.0.1"},
		{"127.0.0.1:0", "198.51.100.3", "198.51.100.3"},
		{"127.0.0.1:0", "me.example", "192.0.2.7"},
		{"127.0.0.1:0", "0.0.0.0", ""},
		{"nowhere.invalid:0", "", ""},
	} {
		m, err := New(Config{
			Self: testID(1), Name: "n", Cluster: "c", HTTPAddr: "h:1", PeerAddr: "p:1", Bind: c.bind, Advertise: c.advertise,
			Meta: &memStore{records: map[string][]byte{}}, Peers: deaf{},
			Resolve: func(_ context.Context, host string) ([]net.IP, error) {
				if host == "nowhere.invalid" {
					return nil, errors.New("no such host")
				}
				return []net.IP{net.ParseIP("2001:db8::7"), net.IPv4(192, 0, 2, 7)}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		err = m.Open()
		if (err != nil) != (c.want == "") {
			t.Errorf("%+v: %v", c, err)
		}
		if host, _, _ := net.SplitHostPort(m.GossipAddr()); err == nil && host != c.want {
			t.Errorf("%+v: got %s", c, host)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 30 s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestLogLinesKeepTheirLevels(t *testing.T) {
	var out bytes.Buffer
	others := 0
	l := newLogBridge(slog.New(slog.NewTextHandler(&out, nil)), func() { others++ })
	l.Printf("[DEBUG] memberlist: fine")
	l.Printf("[INFO] memberlist: Suspect n1 has failed")
	l.Printf("[ERR] memberlist: Push/Pull with n1 failed: x")
	l.Printf("[ERR] memberlist: discarding packet with unacceptable label %q: from=1", "rondo/other")
	l.Printf("[ERR] memberlist: discarding packet with unacceptable label %q: from=2", "rondo/other")
	l.Printf("[WARN] memberlist: handler queue full")
	l.Printf("[ERR] Failed to shutdown transport: x")
	got := out.String()
	if n := strings.Count(got, "\n"); n != 3 || others != 2 || strings.Count(got, "level=WARN") != 3 {
		t.Errorf("%d lines, %d messages of others: %s", n, others, got)
	}
}
