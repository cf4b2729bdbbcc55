package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/rondodb/rondo/antientropy"
	"github.com/rondodb/rondo/peer"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
)

// repairStore is the store in the words of anti-entropy: the two know nothing of each other.
type repairStore struct{ *storage.Store }

var _ antientropy.Store = repairStore{}

func (s repairStore) VerifyPartition(partition int, pace func(bytes int) error) (antientropy.VerifyResult, error) {
	r, err := s.Store.VerifyPartition(partition, pace)
	return antientropy.VerifyResult(r), err
}

func (s repairStore) Marks(c ring.Class) antientropy.Marks {
	return antientropy.Marks(s.Store.Marks(c))
}

func (s repairStore) Tombstones() []antientropy.TombstoneStat {
	var out []antientropy.TombstoneStat
	for _, t := range s.Store.Tombstones() {
		out = append(out, antientropy.TombstoneStat(t))
	}
	return out
}

func (s repairStore) Hints(target ring.NodeID, after *ring.Key, yield func(antientropy.Hint) bool) error {
	return s.Store.Hints(target, after, func(h storage.Hint) bool { return yield(antientropy.Hint(h)) })
}

func (s repairStore) HintStats() (out []antientropy.HintStat, known bool) {
	stats, known := s.Store.HintStats()
	for _, h := range stats {
		out = append(out, antientropy.HintStat(h))
	}
	return out, known
}

// exchanges carries the messages of anti-entropy.
type exchanges struct{ client *peer.Client }

func (e exchanges) Exchange(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	return e.client.Call(ctx, to, layout, peer.OpExchange, request)
}

// What --repair may name.
const (
	repairExchange = "exchange"
	repairHints    = "hints"
	repairCollect  = "collect"
	repairVerify   = "verify"
)

var repairWords = []string{repairExchange, repairHints, repairCollect, repairVerify}

// repairs reads the value of --repair: all, none, or a list of what is to run.
func repairs(value string) (map[string]bool, error) {
	on := map[string]bool{}
	switch value {
	case "all":
		for _, w := range repairWords {
			on[w] = true
		}
		return on, nil
	case "none":
		return on, nil
	}
	for _, w := range strings.Split(value, ",") {
		w = strings.TrimSpace(w)
		known := false
		for _, k := range repairWords {
			known = known || w == k
		}
		if !known {
			return nil, fmt.Errorf("%q: use all, none, or some of %s", w, strings.Join(repairWords, ", "))
		}
		on[w] = true
	}
	return on, nil
}
