package antientropy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

var key = ring.NewKey("b", "k")

// deleted is a party whose owners of key hold a tombstone over a value; the value alone is returned.
func deleted(t testing.TB, n int) (p *party, owners []*guest, value vclock.Object) {
	p = newParty(t, n, nil)
	owners = p.owners(key)
	value = owners[0].shelf.write(key, "old", false)
	spread(t, key, value, owners[1:]...)
	tombstone := owners[0].shelf.write(key, "", false)
	spread(t, key, tombstone, owners[1:]...)
	time.Sleep(5 * time.Second)
	return p, owners, value
}

func stored(nodes []*guest) int {
	n := 0
	for _, g := range nodes {
		n += len(g.shelf.data)
	}
	return n
}

func (g *guest) blocker() string { return g.tombstoneStatus().Blocker }

func TestCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, value := deleted(t, 4)
		if s := owners[1].tombstoneStatus(); s.Waiting != 1 || len(s.Classes) != 1 || s.Classes[0].Count != 1 || s.Oldest.IsZero() {
			t.Errorf("status before: %+v", s)
		}
		owners[1].round(t.Context()) // not the collector
		if stored(owners) != 3 || len(p.asked) != 0 {
			t.Fatalf("%d objects left, messages %v, want 3 and none", stored(owners), p.asked)
		}
		owners[0].round(t.Context())
		if stored(owners) != 0 || owners[0].blocker() != "" {
			t.Fatalf("%d objects left, blocker %q", stored(owners), owners[0].blocker())
		}
		if p.asked[kindFence] != 3 || p.asked[kindCommit] != 2 || p.asked[kindRelease] != 2 || p.asked[kindRoots] != 3 {
			t.Errorf("messages %v", p.asked)
		}
		for _, g := range owners {
			if want := []string{"fence", "watermark", "released"}; !slices.Equal(g.shelf.steps, want) {
				t.Errorf("%s: steps %v, want %v", g.id, g.shelf.steps, want)
			}
			if s := g.tombstoneStatus(); s.Waiting != 0 || s.Collected != 1 {
				t.Errorf("%s: status %+v", g.id, s)
			}
		}
		if got := p.others(key)[0].shelf.steps; !slices.Equal(got, []string{"fence"}) {
			t.Errorf("who owns nothing: steps %v, want a fence", got)
		}
		// A late write, and a late hint, of the value.
		if err := owners[1].shelf.Merge(key, vclock.AppendObject(nil, value)); !isPurged(err) {
			t.Errorf("a late write: %v, want purged", err)
		}
		clear(p.asked)
		owners[0].round(t.Context())
		if len(p.asked) != 0 {
			t.Errorf("nothing waits, and yet messages %v", p.asked)
		}
	})
}

func TestCollectLateHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, value := deleted(t, 4)
		standin := p.others(key)[0]
		standin.shelf.Hint(owners[2].id, key, vclock.AppendObject(nil, value))
		owners[0].round(t.Context())
		if got := owners[0].blocker(); stored(owners) != 3 || !strings.Contains(got, standin.config.Name(standin.id)+" keeps 1 hints") {
			t.Fatalf("%d objects left, blocker %q: the hint must be waited for", stored(owners), got)
		}
		late := standin.shelf.hints[owners[2].id][key]
		standin.deliver(t.Context())
		if stats, _ := standin.shelf.HintStats(); len(stats) != 0 {
			t.Fatalf("hints left: %+v", stats)
		}
		owners[0].round(t.Context())
		if stored(owners) != 0 {
			t.Fatalf("%d objects left, blocker %q", stored(owners), owners[0].blocker())
		}
		// The stand-in's disk is set back to when it still had the hint.
		standin.shelf.hints[owners[2].id][key] = late
		standin.deliver(t.Context())
		if stats, _ := standin.shelf.HintStats(); len(stats) != 0 || stored(owners) != 0 {
			t.Errorf("hints left %+v, %d objects came back", stats, stored(owners))
		}
		if got := owners[2].tombstoneStatus().Refused; got != 1 {
			t.Errorf("%d refused, want 1", got)
		}
	})
}

func TestCollectWaitsForEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, who := range []string{"an owner", "a stand-in"} {
			p, owners, _ := deleted(t, 4)
			away := owners[2]
			if who == "a stand-in" {
				away = p.others(key)[0]
			}
			p.setDown(away.id, true)
			for range 20 {
				time.Sleep(24 * time.Hour)
				owners[0].round(t.Context())
			}
			want := away.config.Name(away.id) + " is dead since "
			if got := owners[0].tombstoneStatus(); stored(owners) != 3 || !strings.Contains(got.Blocker, want) || !strings.Contains(got.Classes[0].Blocker, want) {
				t.Fatalf("%s away: %d objects left, %q, want %q", who, stored(owners), got.Blocker, want)
			}
			if got := owners[1].blocker(); !strings.Contains(got, want) {
				t.Errorf("%s away: another owner says %q", who, got)
			}
			p.setDown(away.id, false)
			owners[0].round(t.Context())
			if stored(owners) != 0 || owners[0].blocker() != "" {
				t.Errorf("%s back: %d objects left, %q", who, stored(owners), owners[0].blocker())
			}
		}
	})
}

// An owner that was away holds the value and has not heard of the delete.
func TestCollectOwnerComesBackWithTheValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for away := range 3 {
			p := newParty(t, 4, nil)
			owners := p.owners(key)
			spread(t, key, owners[0].shelf.write(key, "old", false), owners[1:]...)
			p.setDown(owners[away].id, true)
			by := owners[(away+1)%3]
			spread(t, key, by.shelf.write(key, "", false), owners[(away+2)%3])
			time.Sleep(time.Hour)
			owners[0].round(t.Context())
			p.setDown(owners[away].id, false)
			if stored(owners) != 3 {
				t.Fatalf("%d objects left while an owner was away", stored(owners))
			}
			if away == 0 { // the collector hears of the tombstone by exchange, as it always does
				owners[0].level(t.Context(), by.id, []ring.Class{by.shelf.class(key)})
			}
			owners[0].round(t.Context())
			if stored(owners) != 0 {
				t.Errorf("%d objects left, %q", stored(owners), owners[0].blocker())
			}
		}
	})
}

func TestCollectRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name, want string
			spoil      func(g *guest)
			who        int // 0 the collector, 1 and 2 owners, 3 neither
		}{
			{"unsynced owner", "has lost something", func(g *guest) { g.shelf.lost[g.shelf.class(key)] = true }, 2},
			{"unsynced collector", "has lost something", func(g *guest) { g.shelf.lost[g.shelf.class(key)] = true }, 0},
			{"hints unknown", "still counts its hints", func(g *guest) { g.shelf.counting = true }, 3},
			{"hints unknown on an owner", "still counts its hints", func(g *guest) { g.shelf.counting = true }, 1},
			{"clock behind", "has a clock that is ", func(g *guest) { g.skew = -2 * time.Minute }, 3},
			{"set back", "was set back", func(g *guest) {
				c := g.shelf.class(key)
				for _, o := range g.owners(key) {
					if o != g {
						o.shelf.marks[c] = Marks{1, 1, 1}
					}
				}
			}, 2},
			{"collector set back", "was set back", func(g *guest) {
				c := g.shelf.class(key)
				for _, o := range g.owners(key) {
					if o != g {
						o.shelf.marks[c] = Marks{1, 1, 1}
					}
				}
			}, 0},
			{"does not answer", "does not take part: connection refused", func(g *guest) {
				g.meddle = func(m message) meddling { return meddling{lost: m.to == g.id} }
			}, 3},
			{"not equal", "exchange with n", func(g *guest) {
				g.shelf.broken[key] = fmt.Errorf("cannot read")
				o := g.owners(key)[0].shelf
				o.put(key, vclock.AppendObject(nil, o.object(key).LastWriter()))
				o.write(key, "", false)
			}, 1},
		} {
			p, owners, _ := deleted(t, 4)
			g := append(owners, p.others(key)...)[test.who]
			test.spoil(g)
			time.Sleep(2 * time.Second)
			owners[0].round(t.Context())
			got := owners[0].tombstoneStatus()
			if stored(owners) != 3 || !strings.Contains(got.Blocker, test.want) || !strings.Contains(got.Blocker, g.config.Name(g.id)) {
				t.Errorf("%s: %d objects left, blocker %q, want %q of %s", test.name, stored(owners), got.Blocker, test.want, g.config.Name(g.id))
			}
		}
	})
}

// What is minted after the fence is later than the watermark, whatever the clocks are.
func TestCollectSlowClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, _ := deleted(t, 4)
		slow := owners[1]
		slow.skew = -30 * time.Second
		owners[0].round(t.Context())
		if stored(owners) != 0 {
			t.Fatalf("%d objects left, %q", stored(owners), owners[0].blocker())
		}
		value := slow.shelf.write(key, "new", true)
		spread(t, key, value, owners[0], owners[2])
		for _, g := range append(owners, p.others(key)...)[:3] {
			if got := g.shelf.values(key); !slices.Equal(got, []string{"new"}) {
				t.Errorf("%s has %v", g.id, got)
			}
		}
	})
}

// A key is written again while an old tombstone of it is still under way.
func TestCollectRecreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, _ := deleted(t, 4)
		tombstone, _, err := owners[1].shelf.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		p.meddle = func(m message) meddling { return meddling{lost: m.kind == kindRelease && m.to == owners[1].id} }
		owners[0].round(t.Context())
		if stored(owners) != 2 { // owners[2] was released, the collector is last
			t.Fatalf("%d objects left", stored(owners))
		}
		p.meddle = nil
		value := owners[2].shelf.write(key, "new", true)
		spread(t, key, value, owners[0], owners[1])
		if err := owners[2].shelf.Merge(key, tombstone); !isPurged(err) {
			t.Errorf("the old tombstone: %v, want purged", err)
		}
		for range 3 {
			time.Sleep(time.Minute)
			owners[0].round(t.Context())
		}
		for _, a := range owners {
			for _, b := range owners {
				if a != b {
					a.level(t.Context(), b.id, []ring.Class{a.shelf.class(key)})
				}
			}
		}
		for _, g := range owners {
			if got := g.shelf.values(key); !slices.Equal(got, []string{"new"}) || len(g.shelf.object(key).Siblings) != 1 {
				t.Errorf("%s has %v, %d siblings", g.id, got, len(g.shelf.object(key).Siblings))
			}
		}
	})
}

// An owner's disk is set back to before the delete.
func TestCollectRestoredDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, known := range [][]ring.Class{nil, {newShelf(1, nil).class(key)}} {
			p := newParty(t, 3, nil)
			owners := p.owners(key)
			spread(t, key, owners[0].shelf.write(key, "old", false), owners[1:]...)
			old, marks := owners[2].shelf.snapshot()
			spread(t, key, owners[0].shelf.write(key, "", false), owners[1:]...)
			time.Sleep(5 * time.Second)
			owners[0].round(t.Context())
			if stored(owners) != 0 {
				t.Fatalf("%d objects left", stored(owners))
			}
			c := owners[0].shelf.class(key)
			owners[2].shelf.restore(old, marks, p.actor(), known)
			owners[2].start(nil)
			owners[0].level(t.Context(), owners[2].id, []ring.Class{c})
			if stored(owners) != 0 {
				t.Errorf("the value came back: %v", owners[2].shelf.values(key))
			}
			for _, id := range []ring.NodeID{owners[0].id, owners[1].id} {
				if why := owners[2].level(t.Context(), id, []ring.Class{c}); len(why) > 0 {
					t.Errorf("exchange with %s: %v", id, why)
				}
			}
			if got := owners[2].shelf.marks[c]; owners[2].shelf.lost[c] || got.Watermark < owners[0].shelf.marks[c].Released {
				t.Errorf("after it has synced: no vote %v, marks %+v", owners[2].shelf.lost[c], got)
			}
		}
	})
}

// The collector crashes after any of its messages, any message is lost, its answer is lost, it comes twice or far too late: the value
// never comes back, and sooner or later everything is collected.
func TestCollectFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := 0 // messages of an undisturbed round
		for what := range 6 {
			for at := 0; at <= whole; at++ {
				p, owners, value := deleted(t, 4)
				ctx, cancel := context.WithCancel(t.Context())
				n := 0
				p.meddle = func(m message) meddling {
					p.mu.Lock()
					defer p.mu.Unlock()
					n++
					if n != at {
						return meddling{}
					}
					switch what {
					case 0: // crash
						cancel()
						return meddling{lost: true}
					case 1: // crash before the answer
						cancel()
						return meddling{answerLost: true}
					case 2:
						return meddling{lost: true}
					case 3:
						return meddling{answerLost: true}
					case 4:
						return meddling{twice: true}
					}
					return meddling{held: true}
				}
				owners[0].round(ctx)
				cancel()
				whole = max(whole, n)
				p.meddle = nil
				if what < 2 {
					owners[0].shelf.crash(p.actor())
					owners[0].start(nil)
				}
				check := func(when string) {
					for _, g := range owners {
						if got := g.shelf.values(key); len(got) > 0 {
							t.Fatalf("fault %d at message %d, %s: %v on %s", what, at, when, got, g.id)
						}
					}
				}
				check("after the round")
				for _, g := range owners {
					if err := g.shelf.Merge(key, vclock.AppendObject(nil, value)); err != nil && !isPurged(err) {
						t.Fatal(err)
					}
				}
				check("after late writes")
				p.letGo()
				check("after late messages")
				for range 3 {
					time.Sleep(time.Minute)
					owners[0].round(t.Context())
				}
				if stored(owners) != 0 {
					t.Fatalf("fault %d at message %d: %d objects left, %q", what, at, stored(owners), owners[0].blocker())
				}
				check("in the end")
			}
		}
		if whole < 10 {
			t.Errorf("a round has %d messages", whole)
		}
	})
}

// An owner loses what it had not synced between the exchange and COMMIT. It must not commit: it lacks a value that the others hold, and
// would take it for collected.
func TestCollectOwnerRestartsBeforeCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, _ := deleted(t, 4)
		other := key
		for i := 0; owners[0].shelf.class(other) != owners[0].shelf.class(key) || other == key; i++ {
			other = ring.NewKey("b", fmt.Sprint(i))
		}
		value := owners[1].shelf.write(other, "live", false)
		spread(t, other, value, owners[0])
		for _, g := range owners {
			g.shelf.Sync(func(error) {})
		}
		time.Sleep(5 * time.Second)
		p.meddle = func(m message) meddling {
			switch {
			case m.to != owners[2].id:
			case m.kind == kindRoots: // after the fence, which syncs: a late write, so that the exchange finds nothing to send
				spread(t, other, value, owners[2])
			case m.kind == kindCommit:
				owners[2].shelf.crash(p.actor())
				owners[2].start(nil)
			}
			return meddling{}
		}
		owners[0].round(t.Context())
		if got := owners[0].blocker(); !strings.Contains(got, "was started again meanwhile") || len(owners[2].shelf.values(other)) != 0 {
			t.Fatalf("%d objects left, blocker %q", stored(owners), got)
		}
		p.meddle = nil
		time.Sleep(time.Minute)
		owners[0].round(t.Context())
		for _, g := range owners {
			if got := g.shelf.values(other); !slices.Equal(got, []string{"live"}) || len(g.shelf.data) != 1 {
				t.Errorf("%s has %v of %d objects", g.id, got, len(g.shelf.data))
			}
		}
	})
}

func TestCollectAnotherLayout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, _ := deleted(t, 4)
		next, err := p.layout.Next(p.layout.Members())
		if err != nil {
			t.Fatal(err)
		}
		p.meddle = func(m message) meddling {
			if m.kind == kindCommit {
				p.mu.Lock()
				p.layout = next
				p.mu.Unlock()
			}
			return meddling{}
		}
		owners[0].round(t.Context())
		if got := owners[0].blocker(); stored(owners) != 3 || !strings.Contains(got, "ring") {
			t.Errorf("%d objects left, blocker %q", stored(owners), got)
		}
		p.owners(key)[0].round(t.Context())
		if stored(owners) != 0 {
			t.Errorf("%d objects left under the new layout, %q", stored(owners), p.owners(key)[0].blocker())
		}
	})
}

// Expired values go as tombstones do.
func TestCollectExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3, nil)
		owners := p.owners(key)
		o := owners[0].shelf.write(key, "soon gone", false)
		o.Siblings[0].Expiry = uint64(time.Now().Add(time.Minute).UnixNano())
		owners[0].shelf.put(key, vclock.AppendObject(nil, o))
		spread(t, key, o, owners[1:]...)
		time.Sleep(30 * time.Second)
		owners[0].round(t.Context())
		if stored(owners) != 3 || len(p.asked) != 0 {
			t.Fatalf("%d objects left before they expire, messages %v", stored(owners), p.asked)
		}
		time.Sleep(time.Minute)
		owners[0].round(t.Context())
		if stored(owners) != 0 {
			t.Errorf("%d objects left, %q", stored(owners), owners[0].blocker())
		}
	})
}

// Everything by itself: the loops of all nodes.
func TestCollectRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, owners, _ := deleted(t, 3)
		for i := range 300 {
			k := ring.NewKey("many", fmt.Sprint(i))
			o := p.owners(k)
			spread(t, k, o[0].shelf.write(k, "", false), o[1:]...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		for _, id := range p.ids {
			go func() { done <- p.nodes[id].Run(ctx) }()
		}
		time.Sleep(2 * time.Minute)
		cancel()
		for range p.ids {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if stored(owners) != 0 {
			t.Errorf("%d objects left, %q", stored(owners), owners[0].blocker())
		}
	})
}

// Whatever only one owner holds when the round begins is on all of them before any has the watermark, below which it would be refused.
func TestCollectSpreadsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for by := range 3 {
			p, owners, _ := deleted(t, 4)
			other := key
			for i := 0; owners[0].shelf.class(other) != owners[0].shelf.class(key) || other == key; i++ {
				other = ring.NewKey("b", fmt.Sprint(i))
			}
			owners[by].shelf.write(other, "live", false)
			time.Sleep(5 * time.Second)
			p.meddle = func(m message) meddling {
				if m.kind == kindCommit {
					for i, g := range owners {
						if got := g.shelf.values(other); !slices.Equal(got, []string{"live"}) {
							t.Errorf("only owner %d held it: owner %d holds %v when the owners commit", by, i, got)
						}
					}
				}
				return meddling{}
			}
			owners[0].round(t.Context())
			if stored(owners) != 3 {
				t.Errorf("%d objects left, want the value on each: %q", stored(owners), owners[0].blocker())
			}
		}
	})
}
