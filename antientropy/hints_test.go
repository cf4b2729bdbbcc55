package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// ownedBy lists keys that a node owns, and another one where it is given.
func (p *party) ownedBy(n int, owners ...*guest) []ring.Key {
	var out []ring.Key
	for i := 0; len(out) < n; i++ {
		k := ring.NewKey("hints", fmt.Sprint(i))
		if !slices.ContainsFunc(owners, func(g *guest) bool { return !slices.Contains(p.owners(k), g) }) {
			out = append(out, k)
		}
	}
	return out
}

// own writes keys on a node, and has it keep a hint of each for the target.
func (g *guest) own(target *guest, keys []ring.Key) {
	for _, k := range keys {
		g.shelf.write(k, "v"+k.Name, false)
		g.shelf.Hint(target.id, k, nil)
	}
}

// keep has a stand-in keep what an owner has just written.
func (g *guest) keep(target *guest, k ring.Key, value string) {
	scratch := newShelf(g.actor(), g.now)
	g.shelf.Hint(target.id, k, vclock.AppendObject(nil, scratch.write(k, value, false)))
}

func (g *guest) left() int64 {
	n := int64(0)
	stats, _ := g.shelf.HintStats()
	for _, s := range stats {
		n += s.Count
	}
	return n
}

func (g *guest) has(t *testing.T, keys []ring.Key) {
	t.Helper()
	missing := 0
	for _, k := range keys {
		if got := g.shelf.values(k); !slices.Equal(got, []string{"v" + k.Name}) {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("n%s lacks %d of %d", g.id[31:], missing, len(keys))
	}
}

// running starts the loops of a node. The test's end joins them.
func (g *guest) running(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.hints.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestHintsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		p.setDown(b.id, true)
		keys := p.ownedBy(10_000, a, b)
		a.own(b, keys)
		largest, inFlight := 0, 0
		p.meddle = func(m message) meddling {
			items, err := decodeHints(m.request[1:])
			if err != nil {
				t.Error(err)
			}
			largest = max(largest, len(items))
			if inFlight++; inFlight > 1 {
				t.Error("two messages to one target at the same time")
			}
			time.Sleep(time.Millisecond)
			inFlight--
			return meddling{}
		}
		a.running(t)
		time.Sleep(time.Minute)
		if a.left() != 10_000 || len(p.asked) != 0 {
			t.Fatalf("%d hints left, messages %v, while the target is away", a.left(), p.asked)
		}
		if s, known := a.hintStatus(); !known || len(s) != 1 || s[0].Count != 10_000 || !strings.Contains(s[0].Error, "is dead") {
			t.Errorf("status %+v", s)
		}
		p.setDown(b.id, false)
		began := time.Now()
		a.wakeHints(b.id)
		for a.left() > 0 && time.Since(began) < time.Minute {
			time.Sleep(5 * time.Millisecond)
		}
		b.has(t, keys)
		if took := time.Since(began); took > time.Second || largest != mostBatch || p.asked[kindHints] > 100 {
			t.Errorf("took %v, largest message %d, %d messages", took, largest, p.asked[kindHints])
		}
		time.Sleep(2 * time.Second)
		if s, _ := a.hintStatus(); len(s) != 1 || s[0].Delivered != 10_000 || s[0].Count != 0 || s[0].Error != "" || s[0].Rate == 0 {
			t.Errorf("status afterwards %+v", s)
		}
	})
}

// A target dies half way; answers are lost; messages come twice. Nothing is lost, and nothing is forgotten before it has arrived.
func TestHintsTargetDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		keys := p.ownedBy(1000, a, b)
		a.own(b, keys)
		n := 0
		p.meddle = func(message) meddling {
			n++
			if n == 5 {
				go p.setDown(b.id, true)
				return meddling{takes: time.Millisecond, lost: true}
			}
			return meddling{answerLost: n%7 == 0, twice: n%3 == 0}
		}
		a.running(t)
		time.Sleep(10 * time.Second)
		arrived := 0
		for _, k := range keys {
			if len(b.shelf.values(k)) > 0 {
				arrived++
			}
		}
		if left := int(a.left()); left == 0 || left < 1000-arrived {
			t.Fatalf("%d arrived, %d hints left", arrived, left)
		}
		b.shelf.crash(p.actor())
		p.setDown(b.id, false)
		a.wakeHints(b.id)
		time.Sleep(time.Minute)
		if a.left() != 0 {
			t.Errorf("%d hints left", a.left())
		}
		b.has(t, keys)
	})
}

// A target that becomes slow gets smaller messages, and pauses between them.
func TestHintsSlowTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		keys := p.ownedBy(5000, a, b)
		a.own(b, keys)
		var sizes []int
		var busy time.Duration
		p.meddle = func(m message) meddling {
			items, err := decodeHints(m.request[1:])
			if err != nil {
				t.Error(err)
			}
			sizes = append(sizes, len(items))
			takes := 10 * time.Millisecond
			if len(sizes) > 20 && len(sizes) <= 40 {
				takes = 200 * time.Millisecond
			}
			busy += takes
			return meddling{takes: takes}
		}
		began := time.Now()
		a.deliver(t.Context())
		took := time.Since(began)
		b.has(t, keys)
		if a.left() != 0 || len(sizes) < 41 || sizes[0] != firstBatch || sizes[19] <= sizes[0] || sizes[25] >= sizes[19]/4 {
			t.Errorf("%d hints left, sizes %v", a.left(), sizes)
		}
		if last := len(sizes) - 2; sizes[last] <= sizes[39] {
			t.Errorf("it has recovered, and sizes do not: %v", sizes)
		}
		if took < busy*3/2 {
			t.Errorf("took %v of which messages took %v: a slow target is to get pauses", took, busy)
		}
	})
}

func TestHintsYieldToClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(pressure float64) time.Duration {
			p := newParty(t, 3, func(c *Config) { c.Pressure = func() float64 { return pressure } })
			a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
			a.own(b, p.ownedBy(2000, a, b))
			p.meddle = func(message) meddling { return meddling{takes: 10 * time.Millisecond} }
			began := time.Now()
			a.deliver(t.Context())
			if a.left() != 0 {
				t.Errorf("%d hints left", a.left())
			}
			return time.Since(began)
		}
		if calm, pressed := took(1), took(4); pressed < 3*calm {
			t.Errorf("took %v while clients wait, %v while they do not", pressed, calm)
		}
	})
}

// One object that cannot be taken, or read, or is gone, does not hold up those behind it.
func TestHintsBadOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		keys := p.ownedBy(100, a, b)
		a.own(b, keys)
		slices.SortFunc(keys, byToken)
		refused, malformed, gone, large := keys[10], keys[20], keys[30], keys[40]
		b.shelf.broken[refused] = errors.New("the disk says no")
		a.shelf.Hint(b.id, malformed, []byte("no object"))
		delete(a.shelf.data, gone)
		a.shelf.write(large, strings.Repeat("x", 2*batchBytes), false)
		biggest := 0
		p.meddle = func(m message) meddling {
			if len(m.request) > batchBytes+1024 {
				if items, err := decodeHints(m.request[1:]); err != nil || len(items) != 1 {
					t.Errorf("a large object travels with %d others, %v", len(items)-1, err)
				}
			}
			biggest = max(biggest, len(m.request))
			return meddling{}
		}
		a.deliver(t.Context())
		if a.left() != 2 || biggest < 2*batchBytes {
			t.Errorf("%d hints left, want those of the two bad objects; largest message %d bytes", a.left(), biggest)
		}
		b.has(t, slices.DeleteFunc(slices.Clone(keys), func(k ring.Key) bool {
			return k == refused || k == malformed || k == gone || k == large
		}))
		s, _ := a.hintStatus()
		if len(s) != 1 || s[0].Error == "" || s[0].Delivered != 98 {
			t.Errorf("status %+v", s)
		}
		delete(b.shelf.broken, refused)
		time.Sleep(hintRetryMax)
		a.deliver(t.Context())
		if a.left() != 1 {
			t.Errorf("%d hints left after the second pass", a.left())
		}
	})
}

// An object at which the target fails the whole message is found, and passed by.
func TestHintsPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		keys := p.ownedBy(200, a, b)
		a.own(b, keys)
		poison := keys[100]
		p.meddle = func(m message) meddling {
			items, err := decodeHints(m.request[1:])
			if err != nil {
				t.Error(err)
			}
			return meddling{lost: slices.ContainsFunc(items, func(it handed) bool { return it.key == poison })}
		}
		a.running(t)
		time.Sleep(time.Minute)
		if a.left() != 1 {
			t.Errorf("%d hints left, want 1", a.left())
		}
	})
}

// The target has lost ownership: by a new layout, as a member or not.
func TestHintsFormerOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, gone := range []string{"still alive", "dead", "not a member"} {
			p := newParty(t, 5, nil)
			standin := p.others(key)[0]
			target := p.owners(key)[2]
			standin.keep(target, key, "last copy")
			own := p.ownedBy(1, standin, target)[0]
			standin.own(target, []ring.Key{own})
			var members []ring.Member
			for _, m := range p.layout.Members() {
				switch {
				case m.ID != target.id:
					members = append(members, m)
				case gone != "not a member":
					m.Weight = 1
					members = append(members, m)
				}
			}
			if gone != "not a member" { // somebody heavy takes nearly all from the others
				for i := range members {
					if members[i].ID != target.id {
						members[i].Weight = 100
					}
				}
			}
			next, err := p.layout.Next(members)
			if err != nil {
				t.Fatal(err)
			}
			partition := next.Partition(key.Token)
			if next.Owns(target.id, partition, 3) {
				t.Fatal("the layout moved other partitions")
			}
			p.layout = next
			p.setDown(target.id, gone == "dead")
			owners := p.owners(key)
			reached := slices.DeleteFunc(slices.Clone(owners), func(g *guest) bool { return g == standin })
			p.setDown(reached[0].id, true)
			standin.deliver(t.Context())
			if standin.shelf.hints[target.id][key] == nil {
				t.Errorf("%s: the hint is forgotten while an owner lacks it", gone)
			}
			if s, _ := standin.hintStatus(); gone == "still alive" && !strings.Contains(s[0].Error, "owns it now, and is dead") {
				t.Errorf("%s: status %+v", gone, s)
			}
			p.setDown(reached[0].id, false)
			standin.wakeHints(reached[0].id)
			standin.deliver(t.Context())
			for _, g := range owners {
				if got := g.shelf.values(key); !slices.Equal(got, []string{"last copy"}) {
					t.Errorf("%s: owner n%s has %v", gone, g.id[31:], got)
				}
			}
			if len(target.shelf.data) > 1 || standin.shelf.hints[target.id][key] != nil {
				t.Errorf("%s: %d objects on the former owner, hint %v", gone, len(target.shelf.data), standin.shelf.hints[target.id][key])
			}
			if stays := p.layout.Owns(target.id, p.layout.Partition(own.Token), 3) && gone == "dead"; !stays && standin.shelf.hints[target.id][own] != nil {
				t.Errorf("%s: the own hint is left", gone)
			}
		}
	})
}

// Both sides may disagree about how many owners a bucket has.
func TestHintsTargetSaysItIsNoOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 5, nil)
		owners, standin := p.owners(key), p.others(key)[0]
		standin.keep(owners[2], key, "v")
		owners[2].shelf.replicas = 2
		standin.deliver(t.Context())
		for i, want := range []int{1, 1, 0} {
			if got := len(owners[i].shelf.values(key)); got != want {
				t.Errorf("owner %d has %d values, want %d", i, got, want)
			}
		}
		if standin.left() != 0 {
			t.Error("the hint is left")
		}
	})
}

func TestHintsChangedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		k := p.ownedBy(1, a, b)[0]
		a.own(b, []ring.Key{k})
		p.meddle = func(message) meddling {
			if len(b.shelf.data) == 0 { // the first message is under way
				a.shelf.write(k, "newer", false)
				a.shelf.Hint(b.id, k, nil)
			}
			return meddling{}
		}
		a.deliver(t.Context())
		if a.left() != 1 {
			t.Fatalf("%d hints left, want the newer one", a.left())
		}
		a.deliver(t.Context())
		if got := b.shelf.values(k); a.left() != 0 || !slices.Equal(got, []string{"newer"}) {
			t.Errorf("%d hints left, %v arrived", a.left(), got)
		}
	})
}

func TestHintsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
		keys := p.ownedBy(5000, a, b)
		a.own(b, keys)
		p.meddle = func(message) meddling { return meddling{takes: 50 * time.Millisecond} }
		a.running(t)
		time.Sleep(500 * time.Millisecond)
		a.PauseHints(true)
		time.Sleep(100 * time.Millisecond)
		left := a.left()
		time.Sleep(time.Minute)
		if a.left() != left || left == 0 || left == 5000 {
			t.Errorf("%d hints left when it was paused, %d later", left, a.left())
		}
		if s, _ := a.hintStatus(); !strings.Contains(s[0].Error, "paused") || !a.hintsPaused() {
			t.Errorf("status %+v", s)
		}
		a.PauseHints(false)
		time.Sleep(time.Minute)
		if a.left() != 0 {
			t.Errorf("%d hints left", a.left())
		}
		b.has(t, keys)
	})
}

// Ten targets, of which some never answer: the others get what waits for them all the same, four at a time.
func TestHintsManyTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 11, nil)
		for _, g := range p.nodes {
			g.shelf.replicas = 11
		}
		a := p.nodes[p.ids[0]]
		keys := p.ownedBy(500, a)
		for _, id := range p.ids[1:] {
			a.own(p.nodes[id], keys)
		}
		busy, most := 0, 0
		p.meddle = func(m message) meddling {
			p.mu.Lock()
			busy++
			most = max(most, busy)
			p.mu.Unlock()
			takes := 10 * time.Millisecond
			if m.to <= p.ids[5] {
				takes = time.Hour // longer than anybody waits
				time.Sleep(callTimeout)
			} else {
				time.Sleep(takes)
			}
			p.mu.Lock()
			busy--
			p.mu.Unlock()
			return meddling{lost: takes > time.Second}
		}
		a.running(t)
		time.Sleep(3 * time.Minute)
		for i, id := range p.ids[1:] {
			stats, _ := a.shelf.HintStats()
			at := slices.IndexFunc(stats, func(s HintStat) bool { return s.Target == id })
			if got := at + 1; (got == 0) != (i >= 5) {
				t.Errorf("target %d: hints left %+v", i, stats)
			}
		}
		if most != hintTargets {
			t.Errorf("%d targets at one time, want %d", most, hintTargets)
		}
	})
}

// Where hints were dropped at the limit an exchange is asked for, and the mark goes when all classes were equal.
func TestHintsDivergent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 4, nil)
		a := p.owners(key)[0]
		b, standin := p.owners(key)[1], p.others(key)[0]
		a.shelf.write(key, "v", false)
		c := a.shelf.class(key)
		asked := make(map[ring.NodeID][]ring.Class)
		a.hints.soon = func(id ring.NodeID, classes []ring.Class) { asked[id] = append(asked[id], classes...) }
		a.shelf.divergent[b.id] = []int{c.Partition}
		p.setDown(b.id, true)
		a.deliver(t.Context())
		if len(asked) != 0 {
			t.Fatalf("asked for %v while the target is away", asked)
		}
		p.setDown(b.id, false)
		a.deliver(t.Context())
		a.deliver(t.Context())
		if got := asked[b.id]; !slices.Equal(got, []ring.Class{c}) {
			t.Errorf("asked for %v, want %v once", got, c)
		}
		a.becameEqual(b.id, ring.Class{Partition: c.Partition, N: 7})
		a.becameEqual(standin.id, c)
		if len(a.shelf.divergent[b.id]) != 1 {
			t.Error("the mark went before the class was equal")
		}
		a.level(t.Context(), b.id, []ring.Class{c})
		if len(a.shelf.divergent[b.id]) != 0 || len(b.shelf.data) != 1 {
			t.Errorf("after an exchange: marks %v, %d objects", a.shelf.divergent, len(b.shelf.data))
		}
		// A node that shares nothing with the target cannot exchange with it.
		standin.shelf.divergent[b.id] = []int{c.Partition}
		standin.deliver(t.Context())
		if len(standin.shelf.divergent[b.id]) != 0 {
			t.Error("the mark of a partition that is not shared stays for ever")
		}
	})
}

func TestHintsReceiverChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 4, nil)
		owner, other := p.owners(key)[0], p.others(key)[0]
		o := newShelf(99, time.Now).write(key, "v", false)
		late := o
		late.Siblings = slices.Clone(o.Siblings)
		late.Siblings[0].Time = latestTime + 1
		for _, test := range []struct {
			name   string
			g      *guest
			object []byte
			want   fate
		}{
			{"not an owner", other, vclock.AppendObject(nil, o), handedNotOwner},
			{"malformed", owner, []byte{1, 2, 3}, handedFailed},
			{"empty", owner, vclock.AppendObject(nil, vclock.Object{}), handedFailed},
			{"from the far future", owner, vclock.AppendObject(nil, late), handedFailed},
			{"good", owner, vclock.AppendObject(nil, o), handedOver},
		} {
			b, err := test.g.Handle(t.Context(), p.ids[0], p.layout.Version(), encodeHints([]handed{{key, test.object}}))
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeReceipts(b, 1)
			if err != nil || got[0].fate != test.want || got[0].fate >= handedNotOwner && got[0].why == "" {
				t.Errorf("%s: got %+v, %v, want %v", test.name, got, err, test.want)
			}
		}
		if _, err := owner.Handle(t.Context(), p.ids[1], p.layout.Version()+1, encodeHints(nil)); !isStale(err) {
			t.Errorf("another layout: %v", err)
		}
		if len(owner.shelf.durable) != 0 {
			t.Error("answered before it is on disk")
		}
	})
}

func TestMeter(t *testing.T) {
	var m meter
	now := time.Unix(1000, 0)
	for range 10 {
		m.add(now, 100)
		now = now.Add(time.Second)
	}
	if got := m.rate(now.Add(-time.Second)); got != 100 {
		t.Errorf("rate %v, want 100", got)
	}
	if got := m.rate(now.Add(time.Minute)); got != 0 {
		t.Errorf("rate %v after a minute, want 0", got)
	}
}
