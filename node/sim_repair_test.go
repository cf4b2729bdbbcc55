package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rondodb/rondo/antientropy"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
)

// simRepair is how nodes of a simulation repair: quicker than usual, since virtual time is cheap and a run is short.
type simRepair struct {
	noExchange, noHints, noCollection, noVerification bool
	hintLimit                                         int64 // bytes for one target; 0 = the usual
}

func (r simRepair) apply(c *antientropy.Config) {
	c.Interval, c.PurgeEvery, c.VerifyCycle = 2*time.Second, 3*time.Second, time.Minute
	c.NoExchange, c.NoHints, c.NoPurge, c.NoVerify = r.noExchange, r.noHints, r.noCollection, r.noVerification
}

// set switches parts of repair off or on, for nodes that start from now on.
func (s *simulation) set(args []string) error {
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		if name == "hint-limit" {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return fmt.Errorf("set %s: %w", arg, err)
			}
			s.repair.hintLimit = n
			continue
		}
		part := map[string]*bool{
			"exchange": &s.repair.noExchange, "hints": &s.repair.noHints, "collection": &s.repair.noCollection, "verification": &s.repair.noVerification,
		}[name]
		if part == nil || value != "on" && value != "off" {
			return fmt.Errorf("set %s: unknown", arg)
		}
		*part = value == "off"
	}
	return nil
}

// up are the nodes that run.
func (s *simulation) up() []*simHost {
	return slices.DeleteFunc(slices.Clone(s.hosts), func(h *simHost) bool { return h.running() == nil })
}

// nameOf is the name of the host with this identity.
func (s *simulation) nameOf(id ring.NodeID) string {
	for _, h := range s.hosts {
		if h.id == id {
			return h.name
		}
	}
	return string(id)
}

// await polls until nothing is wrong, for a minute.
func (s *simulation) await(what string, wrong func() string) string {
	began := time.Now()
	for {
		why := wrong()
		if why == "" {
			s.note("%s after %v", what, time.Since(began).Round(time.Millisecond))
			return "within a minute"
		}
		if time.Since(began) > time.Minute {
			return "not within a minute: " + why
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// apart says where the trees of two owners differ; "" where all owners hold the same.
func (s *simulation) apart() string {
	nodes := map[ring.NodeID]*life{}
	classes := map[ring.Class]bool{}
	var layout *ring.Layout
	for _, h := range s.up() {
		n := h.running()
		nodes[h.id] = n
		layout = n.members.Layout()
		for _, c := range n.store.Classes() {
			classes[c] = true
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(classes), ring.Class.Compare) {
		var first []uint64
		var firstName string
		for _, id := range layout.Owners(c.Partition, c.N) {
			n := nodes[id]
			if n == nil {
				return fmt.Sprintf("%s is down", s.nameOf(id))
			}
			leaves := n.store.Leaves(nil, c)
			if first == nil {
				first, firstName = leaves, s.nameOf(id)
			} else if !slices.Equal(first, leaves) {
				return fmt.Sprintf("%s and %s differ in partition %d", firstName, s.nameOf(id), c.Partition)
			}
		}
	}
	return ""
}

// hints says what is kept for whom; "" where nothing is.
func (s *simulation) hints() string {
	var out []string
	for _, h := range s.up() {
		stats, known := h.running().store.HintStats()
		if !known {
			out = append(out, h.name+" still counts")
		}
		for _, stat := range stats {
			if stat.Count > 0 {
				out = append(out, fmt.Sprintf("%s keeps %d for %s", h.name, stat.Count, s.nameOf(stat.Target)))
			}
			if len(stat.Divergent) > 0 {
				out = append(out, fmt.Sprintf("%s has dropped some for %s", h.name, s.nameOf(stat.Target)))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// tombstones says who has some that wait to be collected; "" where nobody has.
func (s *simulation) tombstones() string {
	var waiting []string
	for _, h := range s.up() {
		if slices.ContainsFunc(h.running().store.Tombstones(), func(t storage.TombstoneStat) bool { return t.Count > 0 }) {
			waiting = append(waiting, h.name)
		}
	}
	if len(waiting) == 0 {
		return ""
	}
	return "waiting at " + strings.Join(waiting, " ")
}

// blockers names the nodes that keep others from collecting, as those say; "" where there is none.
func (s *simulation) blockers() string {
	var out []string
	for _, other := range s.hosts {
		if slices.ContainsFunc(s.up(), func(h *simHost) bool {
			return strings.Contains(h.running().repairer.Status().Tombstones.Blocker, other.name)
		}) {
			out = append(out, other.name)
		}
	}
	return strings.Join(out, " ")
}

// votes says for how much one node votes.
func (s *simulation) votes(args []string) (string, error) {
	n, err := s.one("votes", args)
	if err != nil {
		return "", err
	}
	if n.repairer.Status().Unsynced == 0 {
		return "for everything", nil
	}
	return "not for everything", nil
}

// unsynced names the nodes that do not vote for everything; "" where there is none.
func (s *simulation) unsynced() string {
	var out []string
	for _, h := range s.up() {
		if h.running().repairer.Status().Unsynced > 0 {
			out = append(out, h.name)
		}
	}
	return strings.Join(out, " ")
}

// exchangeNow has one node exchange everything.
func (s *simulation) exchangeNow(args []string) (string, error) {
	n, err := s.one("repair", args)
	if err != nil {
		return "", err
	}
	var last antientropy.Progress
	if err := n.repairer.Repair(context.Background(), -1, func(p antientropy.Progress) { last = p }); err != nil {
		return "", err
	}
	if !last.Done || !last.OK {
		return "not ok: " + last.Error, nil
	}
	return fmt.Sprintf("ok, %d different", last.Different), nil
}

// one is the only node that is named, running.
func (s *simulation) one(name string, args []string) (*life, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("%s needs one node", name)
	}
	h, err := s.host(args[0])
	if err != nil {
		return nil, err
	}
	n := h.running()
	if n == nil {
		return nil, errors.New(h.name + " is down")
	}
	return n, nil
}

// owners names the owners of a key of the scripts' bucket, in order.
func (s *simulation) owners(args []string) (string, error) {
	up := s.up()
	if len(args) != 1 || len(up) == 0 {
		return "", errors.New("owners needs one key, and a node that is up")
	}
	l := up[0].running().members.Layout()
	var out []string
	for _, id := range l.Owners(l.Partition(ring.NewKey(scriptBucket, args[0]).Token), 3) {
		out = append(out, s.nameOf(id))
	}
	return strings.Join(out, " "), nil
}

// pauseHints stops the delivery of hints on all nodes, or lets it go on.
func (s *simulation) pauseHints(paused bool) {
	for _, h := range s.up() {
		h.running().repairer.PauseHints(paused)
	}
}

// several makes one request for each of count keys, and counts the answers.
func (s *simulation) several(kind string, args []string) (string, error) {
	if len(args) < 3 {
		return "", fmt.Errorf("%s needs a node, a key and a count", kind)
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return "", err
	}
	answers := map[string]int{}
	for i := range count {
		answer, err := s.request(strings.TrimSuffix(kind, "s"), append([]string{args[0], args[1] + strconv.Itoa(i)}, args[3:]...))
		if err != nil {
			return "", err
		}
		answers[answer]++
	}
	var out []string
	for _, answer := range slices.Sorted(maps.Keys(answers)) {
		out = append(out, fmt.Sprintf("%d times %s", answers[answer], answer))
	}
	return strings.Join(out, "; "), nil
}

// simSeen counts what repair did in the last life of each node, and what of it clients took part in.
type simSeen struct {
	standins, expiring          int // operations
	hints, exchanged, collected uint64
	late                        uint64 // versions that came after they had been collected
	lost                        int    // stores that lost something, or were set back
}

func (s *simulation) seen() (out simSeen) {
	for _, h := range s.up() {
		l := h.running()
		status := l.repairer.Status()
		out.exchanged += status.ObjectsReceived
		out.collected += status.Tombstones.Collected
		out.late += status.Tombstones.Refused
		for _, hint := range status.Hints {
			out.hints += hint.Delivered
		}
		if l.store.Unsynced() != nil { // of classes that no other node owns
			out.lost++
		}
	}
	if s.result != nil {
		for _, o := range s.result.History {
			if o.Standins > 0 {
				out.standins++
			}
			if o.Expires != 0 {
				out.expiring++
			}
		}
	}
	return out
}

func (s *simSeen) add(o simSeen) {
	s.standins += o.standins
	s.expiring += o.expiring
	s.hints += o.hints
	s.exchanged += o.exchanged
	s.collected += o.collected
	s.late += o.late
	s.lost += o.lost
}

// missing is what a long run must have met and has not.
func (s *simSeen) missing() bool {
	return min(s.standins, s.expiring, s.lost) == 0 || min(s.hints, s.exchanged, s.collected) == 0
}

func (s simSeen) String() string {
	return fmt.Sprintf("%d operations with stand-ins, %d values that expire, %d hints delivered, %d objects exchanged, %d collected, %d refused as late, %d stores that lost something",
		s.standins, s.expiring, s.hints, s.exchanged, s.collected, s.late, s.lost)
}
