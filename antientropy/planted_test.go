//go:build planted

package antientropy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// An exchange goes on beside what is damaged.
func TestPlantedExchangeStopsAtDamage(t *testing.T) {
	planttest.Catches(t, plant.ExchangeStopsAtDamage, damagedExchange)
}

// A target dies while hints are on their way to it: they must be delivered once it is back.
func TestPlantedHintDropEarly(t *testing.T) {
	planttest.Catches(t, plant.HintDropEarly, func(t *testing.T) (err error) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, 3, nil)
			a, b := p.nodes[p.ids[0]], p.nodes[p.ids[1]]
			keys := p.ownedBy(100, a, b)
			a.own(b, keys)
			n := 0
			p.meddle = func(message) meddling {
				n++
				return meddling{lost: n == 3}
			}
			for range 3 {
				a.deliver(t.Context())
				time.Sleep(time.Minute)
			}
			if got := len(b.shelf.data); got != len(keys) {
				err = fmt.Errorf("%d of %d objects arrived, %d hints left", got, len(keys), a.left())
			}
		})
		return err
	})
}

// A stand-in's copy is the last one, and its target does not own the key any more.
func TestPlantedHintForFormerOwner(t *testing.T) {
	planttest.Catches(t, plant.HintForFormerOwner, func(t *testing.T) (err error) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, 5, nil)
			standin, target := p.others(key)[0], p.owners(key)[2]
			standin.keep(target, key, "last copy")
			var members []ring.Member
			for _, m := range p.layout.Members() {
				if m.ID != target.id {
					members = append(members, m)
				}
			}
			next, e := p.layout.Next(members)
			if e != nil {
				t.Fatal(e)
			}
			p.layout = next
			standin.deliver(t.Context())
			for _, g := range p.owners(key) {
				if got := g.shelf.values(key); len(got) != 1 {
					err = fmt.Errorf("%s does not hold the value", name(g))
				}
			}
		})
		return err
	})
}

// An owner is away while a value that it holds is deleted. It comes back after a day.
func TestPlantedCollectTooEarly(t *testing.T) {
	planttest.Catches(t, plant.CollectTooEarly, func(t *testing.T) (err error) {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, 4, nil)
			owners := p.owners(key)
			spread(t, key, owners[0].shelf.write(key, "old", false), owners[1:]...)
			p.setDown(owners[2].id, true)
			spread(t, key, owners[0].shelf.write(key, "", false), owners[1])
			time.Sleep(24 * time.Hour)
			owners[0].round(t.Context())
			p.setDown(owners[2].id, false)
			for i, a := range owners {
				for _, b := range owners[:i] { // what a read of two replicas shows
					if read := vclock.Merge(a.shelf.object(key), b.shelf.object(key)); read.Values() > 0 {
						err = fmt.Errorf("%s and %s together show the value again", name(a), name(b))
					}
				}
			}
		})
		return err
	})
}
