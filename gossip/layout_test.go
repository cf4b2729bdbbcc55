package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

func nextLayout(t *testing.T, l *ring.Layout, weight int) *ring.Layout {
	t.Helper()
	members := append([]ring.Member(nil), l.Members()...)
	members[0].Weight = weight
	next, err := l.Next(members)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestNewerLayoutsSpread(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		late := hosts[2]
		late.kill()
		want := nextLayout(t, hosts[0].Layout(), 2)
		if ok, err := hosts[0].adopt(want, "test"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		c.within(2*time.Second, "spreading", func() string {
			if l := hosts[1].Layout(); !l.Equal(want) {
				return "old layout"
			}
			return ""
		})
		late.start()
		c.within(5*time.Second, "catching up", func() string {
			if l := late.Layout(); !l.Equal(want) {
				return "old layout"
			}
			return ""
		})
		if ok, err := late.adopt(hosts[0].Layout(), "test"); ok || err != nil {
			t.Errorf("the same layout twice: %v, %v", ok, err)
		}
		for _, h := range hosts {
			if b, err := h.disk.GetMeta(metaLayout); err != nil || string(b) != string(want.Encode()) {
				t.Errorf("%s does not have it on disk: %v", h.conf.Name, err)
			}
		}
	})
}

func TestALayoutThatIsNotOnDiskIsNotAnnounced(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		hosts[1].disk.failAfter(1)
		_ = hosts[1].disk.PutMeta("x", nil)
		want := nextLayout(t, hosts[0].Layout(), 2)
		if _, err := hosts[1].adopt(want, "test"); err == nil {
			t.Error("no error")
		}
		if got := hosts[1].Layout().Version(); got != 1 {
			t.Errorf("layout %d is in force", got)
		}
	})
}

func TestTwoLayoutsUnderOneVersionRaiseTheAlarm(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		c.net.Split([]string{hosts[0].ip}, []string{hosts[1].ip, hosts[2].ip})
		a, b := nextLayout(t, hosts[0].Layout(), 2), nextLayout(t, hosts[0].Layout(), 3)
		for i, l := range []*ring.Layout{a, b} {
			if _, err := hosts[i].adopt(l, "test"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		c.net.HealAll()
		c.within(time.Minute, "alarm", func() string {
			if hosts[0].Stats().LayoutAlarms == 0 || hosts[1].Stats().LayoutAlarms == 0 {
				return "none"
			}
			return ""
		})
		if !hosts[0].Layout().Equal(a) || !hosts[1].Layout().Equal(b) {
			t.Error("layouts were merged")
		}
	})
}

func TestAnotherRingsLayoutIsRefused(t *testing.T) {
	inBubble(t, func(c *cluster) {
		h := c.host(1, 1)
		h.start()
		other, err := ring.First("other", 16, h.Layout().Members())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.adopt(nextLayout(t, other, 2), "test"); !errors.Is(err, errOtherRing) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFormMessagesAreChecked(t *testing.T) {
	inBubble(t, func(c *cluster) {
		h := c.host(1, 3)
		h.start()
		member := func(n int) ring.Member { return ring.Member{ID: testID(n), Name: string(rune('a' + n)), Weight: 1} }
		layout := func(partitions int, members ...ring.Member) []byte {
			l, err := ring.First("r", partitions, members)
			if err != nil {
				t.Fatal(err)
			}
			return l.Encode()
		}
		good := layout(16, member(1), member(2))
		for _, r := range []struct {
			from ring.NodeID
			req  formRequest
			want string
		}{
			{testID(2), formRequest{Kind: "shout", Proposer: testID(2), Attempt: 1}, "unknown to this version"},
			{testID(2), formRequest{Kind: kindAsk, Proposer: "x", Attempt: 1}, "proposer"},
			{testID(2), formRequest{Kind: kindAsk, Proposer: testID(2)}, "attempt 0"},
			{testID(3), formRequest{Kind: kindAsk, Proposer: testID(2), Attempt: 1, Layout: good}, "asks for an attempt of"},
			{testID(2), formRequest{Kind: kindAsk, Proposer: testID(2), Attempt: 1, Layout: []byte("x")}, "decode layout"},
			{testID(2), formRequest{Kind: kindAsk, Proposer: testID(2), Attempt: 1, Layout: layout(16, member(2), member(3))}, "both as members"},
			{testID(2), formRequest{Kind: kindAsk, Proposer: testID(2), Attempt: 1, Layout: layout(32, member(1), member(2))}, "partitions"},
		} {
			b, err := json.Marshal(r.req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.HandleForm(r.from, b); err == nil || !strings.Contains(err.Error(), r.want) {
				t.Errorf("got %v, want %q", err, r.want)
			}
		}
		if _, err := h.HandleForm(testID(2), []byte("{")); err == nil {
			t.Error("no error for broken JSON")
		}
		if h.form.state.Lock != nil || len(h.form.state.Refused) > 0 {
			t.Errorf("left behind %+v", h.form.state)
		}
	})
}

// deaf is a network of peers on which nobody answers.
type deaf struct{}

func (deaf) Call(ctx context.Context, _ ring.NodeID, _ string, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func FuzzHandleForm(f *testing.F) {
	f.Add([]byte(`{"kind":"ask","proposer":"00000000000000000000000000000002","attempt":1,"layout":"AQ=="}`))
	f.Add([]byte(`{"kind":"query","proposer":"00000000000000000000000000000002","attempt":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := New(Config{
			Self: testID(1), Name: "n", Cluster: "c", HTTPAddr: "h:1", PeerAddr: "p:1", Bind: "127.0.0.1:0", Expect: 3,
			Meta: &memStore{records: map[string][]byte{}}, Peers: deaf{},
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := m.HandleForm(testID(2), b)
		var a formAnswer
		if err == nil && (json.Unmarshal(out, &a) != nil || a.Reply == 0) {
			t.Errorf("answer %q", out)
		}
		m.hearClaim(b)
	})
}
