package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	leveldb "github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/internal/memnet"
	"github.com/rondodb/rondo/internal/verify"
)

// simCommands are what scripts and seeded plans are made of. Faults that take "for D" end by themselves after that time; the script goes
// on at once. Nodes are n1, n2, …; "all" means each.
//
//	cluster 3                         three nodes, ready
//	load clients=6 pace=50ms          clients begin to work
//	wait 10s
//	crash n1 n2 [for 5s]              kill -9
//	power n1|all [for 5s]             power loss: what was not synced is gone
//	blackout n1|all                   power loss, back at once; nothing unsynced is left by luck
//	lose n1 [for 5s]                  its database is gone; it comes back as itself
//	rot n1 [table|journal|manifest]   a bit of what its disk holds flips; of a table where nothing else is said
//	snapshot n1                       its disk is copied
//	restore n1 [for 5s]               it is killed, and comes back with the disk of the snapshot
//	drain n1 [for 5s]                 a clean stop
//	start n1                          what was stopped runs again
//	pause n1 [for 5s]                 SIGSTOP, as others see it
//	cut n1 n2 [for 5s]                neither hears the other
//	oneway n1 n2 [for 5s]             n2 does not hear n1
//	isolate n1 [for 5s]               nobody hears n1, nor n1 anybody, clients neither
//	mute n1 [for 5s]                  the other nodes do not hear n1
//	split n1 / n2 n3 [for 5s]         the groups do not hear each other
//	flap n1 n2 every 2s for 30s       cut and healed in turn
//	slow n1 500ms [for 5s]            whatever n1 sends and is sent takes longer
//	lossy 30% [for 5s]                of all packets are lost
//	double 30% [for 5s]               of all packets arrive twice
//	reset n1 n2                       their connections break
//	clock n1 +1h [for 5s]             the wall clock is wrong
//	drift n1 +10% [for 5s]            the wall clock is fast
//	full n1 [for 5s]                  the disk takes no more
//	eio n1                            the next fsync of a journal fails
//	storm every 5s for 60s            each node in turn is killed and started
//	heal                              the network; clocks
//	put n1 key value [w=2 …]          and what the node answered; also sloppy=true, ttl=5s, context=none|last
//	get n1 key [r=1 …]
//	delete n1 key
//	puts n1 key 100 value             the same for key0 to key99, and how often which answer came; gets, deletes
//	set exchange=off hints=off …      also collection, verification, hint-limit=BYTES: for nodes that start from now on
//	owners key                        of the key, in order
//	hints                             who keeps what for whom
//	hints pause | resume              their delivery
//	delivered                         wait until no hint is left
//	digests                           wait until all owners hold the same, by their trees; nothing is read
//	tombstones                        who has some that wait
//	blockers                          because of whom they wait
//	collect                           wait until all of them are collected
//	repair n1                         exchange everything with all other owners now
//	votes n1                          whether its "not found" counts
//	synced                            wait until those of all do
//	members n1                        as n1 sees them; whom it suspects is still alive
//	whole                             wait until all nodes see each other; how long it took must be below a minute
//	finish                            stop the load, end all faults, judge the history
func (s *simulation) run(line string) (out string, err error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", errors.New("empty command")
	}
	name, args := words[0], words[1:]
	switch name { // those that let time pass by themselves
	case "wait":
		d, err := oneDuration(args)
		if err != nil {
			return "", err
		}
		time.Sleep(d)
		return "", nil
	case "finish":
		return s.verdict()
	case "put", "get", "delete":
		return s.request(name, args)
	case "puts", "gets", "deletes":
		return s.several(name, args)
	case "members":
		return s.members(args)
	case "owners":
		return s.owners(args)
	case "hints":
		if len(args) == 1 && (args[0] == "pause" || args[0] == "resume") {
			s.pauseHints(args[0] == "pause")
			return "", nil
		}
		return cmp.Or(s.hints(), "none"), nil
	case "delivered":
		return s.await(name, s.hints), nil
	case "digests":
		return s.await(name, s.apart), nil
	case "tombstones":
		return cmp.Or(s.tombstones(), "none"), nil
	case "blockers":
		return cmp.Or(s.blockers(), "none"), nil
	case "collect":
		return s.await(name, s.tombstones), nil
	case "repair":
		return s.exchangeNow(args)
	case "votes":
		return s.votes(args)
	case "synced":
		return s.await(name, s.unsynced), nil
	case "whole":
		began := time.Now()
		if err := s.awaitWhole(time.Minute); err != nil {
			return err.Error(), nil
		}
		s.note("whole after %v", time.Since(began).Round(time.Millisecond))
		return "within a minute", nil
	}
	if name != "cluster" && name != "load" {
		s.note("%s", line)
	}
	s.busy <- struct{}{}
	defer func() { <-s.busy }()
	if name == "rot" {
		return s.rot(args)
	}
	return "", s.breakIt(name, args)
}

// breakIt runs one command that changes the cluster. The caller holds the token.
func (s *simulation) breakIt(name string, args []string) error {
	args, every, lasts, err := timing(args)
	if err != nil {
		return err
	}
	switch name {
	case "cluster":
		n, err := strconv.Atoi(strings.Join(args, " "))
		if err != nil || n < 1 || n > 9 {
			return fmt.Errorf("cluster of %q nodes", args)
		}
		return s.start(n)
	case "load":
		return s.loadFrom(args)
	case "set":
		return s.set(args)
	case "snapshot", "restore", "crash", "power", "blackout", "lose", "drain", "start", "pause", "full", "eio", "isolate", "mute":
		return s.eachHost(name, args, lasts)
	case "cut", "oneway", "flap", "reset":
		return s.pair(name, args, every, lasts)
	case "split":
		return s.split(args, lasts)
	case "slow":
		return s.slow(args, lasts)
	case "lossy", "double":
		return s.packets(name, args, lasts)
	case "clock", "drift":
		return s.setClock(name, args, lasts)
	case "storm":
		s.storm(every, lasts)
		return nil
	case "heal":
		s.healNetwork()
		for _, h := range s.hosts {
			s.fixClock(h)
			s.resume(h)
		}
		return nil
	}
	return fmt.Errorf("unknown command %q", name)
}

// timing takes "every D" and "for D" off the end of a command.
func timing(words []string) (rest []string, every, lasts time.Duration, err error) {
	for len(words) >= 2 {
		which := words[len(words)-2]
		if which != "for" && which != "every" {
			break
		}
		d, err := time.ParseDuration(words[len(words)-1])
		if err != nil {
			return nil, 0, 0, err
		}
		if which == "for" {
			lasts = d
		} else {
			every = d
		}
		words = words[:len(words)-2]
	}
	return words, every, lasts, nil
}

func oneDuration(args []string) (time.Duration, error) {
	if len(args) != 1 {
		return 0, fmt.Errorf("want one duration, have %q", args)
	}
	return time.ParseDuration(args[0])
}

// after runs undo when the time is over, unless everything is healed before, which undoes it too. No time means never.
func (s *simulation) after(d time.Duration, undo func() error) {
	if d <= 0 {
		return
	}
	s.late.Go(func() {
		select {
		case <-s.ended:
			return
		case <-time.After(d):
		}
		select {
		case <-s.ended:
			return
		case s.busy <- struct{}{}:
		}
		defer func() { <-s.busy }()
		if err := undo(); err != nil {
			s.problem("%v", err)
		}
	})
}

func (s *simulation) eachHost(name string, args []string, lasts time.Duration) error {
	var hosts []*simHost
	for _, arg := range args {
		if arg == "all" {
			hosts = slices.Clone(s.hosts)
			break
		}
		h, err := s.host(arg)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	if len(hosts) == 0 {
		return fmt.Errorf("%s needs a node", name)
	}
	if name == "power" || name == "blackout" { // at one instant
		for _, h := range hosts {
			if h.node != nil {
				h.net.Crash(true)
			}
		}
	}
	for _, h := range hosts {
		if err := s.oneHost(name, h, lasts); err != nil {
			return err
		}
	}
	return nil
}

func (s *simulation) oneHost(name string, h *simHost, lasts time.Duration) error {
	switch name {
	case "crash", "power":
		if h.node != nil {
			s.crash(h, name == "power")
			s.after(lasts, func() error { return s.boot(h) })
		}
	case "blackout":
		if h.node != nil {
			s.lose(h, memdisk.Nothing)
		}
		return s.boot(h)
	case "lose":
		if h.node != nil {
			s.crash(h, false)
			s.after(lasts, func() error { return s.boot(h) })
		}
		h.disk = memdisk.New()
	case "snapshot":
		return s.snapshot(h)
	case "restore":
		if h.node != nil {
			s.crash(h, false)
			s.after(lasts, func() error { return s.boot(h) })
		}
		return s.restore(h)
	case "drain":
		if h.node != nil {
			s.drain(h)
			s.after(lasts, func() error { return s.reopen(h) })
		}
	case "start":
		return s.boot(h)
	case "pause":
		s.pause(h)
		boot := h.boots
		s.after(lasts, func() error {
			if h.boots == boot && h.pauses > 0 {
				if h.pauses--; h.pauses == 0 {
					s.network.Resume(h.ip)
				}
			}
			return nil
		})
	case "full":
		h.sick = true
		h.disk.SetCapacity(h.disk.Used() + 4096)
		s.after(lasts, func() error { return s.cure(h) })
	case "eio":
		if h.node == nil {
			return nil
		}
		h.sick = true
		h.disk.FailSync(leveldb.TypeJournal, 1)
		s.after(lasts, func() error { return s.cure(h) })
	case "isolate":
		s.breakLinks(lasts, func(from, to string, r *memnet.Rule) {
			if from == h.name || to == h.name {
				r.Cut = true
			}
		})
	case "mute":
		s.breakLinks(lasts, func(from, to string, r *memnet.Rule) {
			if from == h.name && to != "" {
				r.Cut = true
			}
		})
	}
	return nil
}

// rot flips a bit of one node's disk, and says of what.
func (s *simulation) rot(args []string) (string, error) {
	what := "table"
	if len(args) == 2 {
		what = args[1]
	}
	types := map[string]leveldb.FileType{"table": leveldb.TypeTable, "journal": leveldb.TypeJournal, "manifest": leveldb.TypeManifest}[what]
	if len(args) < 1 || len(args) > 2 || types == 0 {
		return "", fmt.Errorf("rot %q: want a node, and table, journal or manifest", args)
	}
	h, err := s.host(args[0])
	if err != nil {
		return "", err
	}
	fd, bit, ok := h.disk.FlipBit(s.random, types)
	if !ok {
		return "there is no " + what, nil
	}
	s.note("%s: bit %d of %v is flipped", h.name, bit, fd)
	return "a bit of a " + what, nil
}

// breakLinks adds a fault of the network.
func (s *simulation) breakLinks(lasts time.Duration, change func(from, to string, r *memnet.Rule)) {
	f := &linkFault{change}
	s.faults = append(s.faults, f)
	s.relink()
	s.after(lasts, func() error {
		s.faults = slices.DeleteFunc(s.faults, func(o *linkFault) bool { return o == f })
		s.relink()
		return nil
	})
}

func (s *simulation) pair(name string, args []string, every, lasts time.Duration) error {
	if len(args) != 2 {
		return fmt.Errorf("%s needs two nodes", name)
	}
	a, err := s.host(args[0])
	if err != nil {
		return err
	}
	b, err := s.host(args[1])
	if err != nil {
		return err
	}
	both := func(from, to string, r *memnet.Rule) {
		if from == a.name && to == b.name || from == b.name && to == a.name {
			r.Cut = true
		}
	}
	switch name {
	case "cut":
		s.breakLinks(lasts, both)
	case "oneway":
		s.breakLinks(lasts, func(from, to string, r *memnet.Rule) {
			if from == a.name && to == b.name {
				r.Cut = true
			}
		})
	case "reset":
		s.network.Reset(a.ip, b.ip)
	case "flap":
		if every <= 0 || lasts <= 0 {
			return errors.New("flap needs every and for")
		}
		for at := time.Duration(0); at < lasts; at += 2 * every {
			s.at(at, func() error { s.breakLinks(every, both); return nil })
		}
	}
	return nil
}

// at runs do after a time, at once where there is none. The caller holds the token.
func (s *simulation) at(d time.Duration, do func() error) {
	if d > 0 {
		s.after(d, do)
		return
	}
	if err := do(); err != nil {
		s.problem("%v", err)
	}
}

func (s *simulation) split(args []string, lasts time.Duration) error {
	group, groups := 0, map[string]int{}
	for _, arg := range args {
		if arg == "/" {
			group++
			continue
		}
		if _, err := s.host(arg); err != nil {
			return err
		}
		groups[arg] = group
	}
	if group == 0 || len(groups) != len(s.hosts) {
		return fmt.Errorf("split %q: want every node in one of the groups", args)
	}
	s.breakLinks(lasts, func(from, to string, r *memnet.Rule) {
		if from != "" && to != "" && groups[from] != groups[to] {
			r.Cut = true
		}
	})
	return nil
}

func (s *simulation) slow(args []string, lasts time.Duration) error {
	if len(args) != 2 {
		return errors.New("slow needs a node and a delay")
	}
	h, err := s.host(args[0])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	s.breakLinks(lasts, func(from, to string, r *memnet.Rule) {
		if from == h.name { // its answers: once for each round trip
			r.Delay += d
		}
	})
	return nil
}

func percent(text string) (float64, error) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	return f / 100, err
}

func (s *simulation) packets(name string, args []string, lasts time.Duration) error {
	share, err := percent(strings.Join(args, " "))
	if err != nil {
		return err
	}
	s.breakLinks(lasts, func(_, _ string, r *memnet.Rule) {
		if name == "lossy" {
			r.Drop = max(r.Drop, share)
		} else {
			r.Duplicate = max(r.Duplicate, share)
		}
	})
	return nil
}

func (s *simulation) setClock(name string, args []string, lasts time.Duration) error {
	if len(args) != 2 {
		return fmt.Errorf("%s needs a node and by how much", name)
	}
	h, err := s.host(args[0])
	if err != nil {
		return err
	}
	if name == "drift" {
		rate, err := percent(args[1])
		if err != nil {
			return err
		}
		h.clock.rate.Store(int64(math.Round(rate * 1e6)))
		h.clock.since.Store(time.Now().UnixNano())
	} else {
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		h.clock.ahead.Store(int64(d))
	}
	s.after(lasts, func() error { s.fixClock(h); return nil })
	return nil
}

// storm kills each node in turn and starts it half a period later.
func (s *simulation) storm(every, lasts time.Duration) {
	every = max(every, time.Second)
	for i, at := 0, time.Duration(0); at < lasts; i, at = i+1, at+every/time.Duration(len(s.hosts)) {
		h := s.hosts[i%len(s.hosts)]
		s.at(at, func() error { return s.oneHost("crash", h, every/2) })
	}
}

func (s *simulation) loadFrom(args []string) error {
	c := verify.Config{Run: "sim", Settle: time.Minute, Pace: 50 * time.Millisecond, Clients: 6, Keys: 6}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "clients":
			c.Clients, err = strconv.Atoi(value)
		case "keys":
			c.Keys, err = strconv.Atoi(value)
		case "pace":
			c.Pace, err = time.ParseDuration(value)
		case "timeout":
			c.Timeout, err = time.ParseDuration(value)
		case "seed":
			c.Seed, err = strconv.ParseUint(value, 10, 64)
		case "sloppy":
			c.SloppyPercent, err = strconv.Atoi(value)
		case "ttl":
			c.TTL, err = time.ParseDuration(value)
		case "skew":
			c.Skew, err = time.ParseDuration(value)
		case "quiet":
			c.Quiet = true
		case "w":
			c.Options.W = value
		case "r":
			c.Options.R = value
		case "dw":
			c.Options.DW = value
		case "work":
			for _, w := range strings.Split(value, ",") {
				c.Workloads = append(c.Workloads, verify.Workload(w))
			}
		default:
			err = fmt.Errorf("unknown setting")
		}
		if err != nil {
			return fmt.Errorf("load %s: %w", arg, err)
		}
	}
	return s.startLoad(c)
}

// verdict judges the history.
func (s *simulation) verdict() (string, error) {
	result, err := s.finish()
	if err != nil {
		return "", err
	}
	s.result = result
	return result.Verdict(), nil
}

// client calls one node, as curl would.
func (s *simulation) client(name string) (*client.Client, error) {
	h, err := s.host(name)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Nodes: []string{"http://" + h.ip + ":7070"}, Timeout: 2 * time.Second, Dial: s.dialFromClients})
}

// request makes one request and returns what came back, without what differs between runs.
func (s *simulation) request(kind string, args []string) (string, error) {
	if len(args) < 2 || kind == "put" && len(args) < 3 {
		return "", fmt.Errorf("%s needs a node, a key, and for put a value", kind)
	}
	c, err := s.client(args[0])
	if err != nil {
		return "", err
	}
	defer c.Close()
	key, rest := args[1], args[2:]
	value := ""
	if kind == "put" {
		value, rest = rest[0], rest[1:]
	}
	var o client.Options
	for _, arg := range rest {
		name, v, _ := strings.Cut(arg, "=")
		switch name {
		case "r":
			o.R = v
		case "w":
			o.W = v
		case "dw":
			o.DW = v
		case "sloppy":
			o.Sloppy = v
		case "ttl":
			o.TTL = v
		case "context":
			o.Context = v
			if v == "last" {
				o.Context = s.tokens[key]
			}
		default:
			return "", fmt.Errorf("unknown option %q", arg)
		}
	}
	ctx := context.Background()
	var w *client.Written
	switch kind {
	case "get":
		object, err := c.Get(ctx, scriptBucket, key, o)
		if err != nil {
			return answerOf(err), nil
		}
		var values []string
		for _, v := range object.Values {
			values = append(values, string(v.Data))
		}
		slices.Sort(values)
		s.tokens[key] = object.Context
		return strings.Join(values, " | "), nil
	case "put":
		w, err = c.Put(ctx, scriptBucket, key, []byte(value), o)
	default:
		w, err = c.Delete(ctx, scriptBucket, key, o)
	}
	if err != nil {
		return answerOf(err), nil
	}
	s.tokens[key] = w.Context
	if w.Receipt.Standins > 0 {
		return "ok, with stand-ins", nil
	}
	return "ok", nil
}

// scriptBucket is the bucket of the requests in scripts.
const scriptBucket = "script"

// answerOf is the code and the outcome of a problem.
func answerOf(err error) string {
	var problem *client.Error
	if errors.As(err, &problem) {
		out := fmt.Sprint(problem.Status, " ", problem.Code)
		if problem.Outcome != "" {
			out += " " + problem.Outcome
		}
		if problem.Reason != "" {
			out += " " + problem.Reason
		}
		return out
	}
	var lost *client.Unreachable
	if errors.As(err, &lost) && !lost.Sent {
		return "no connection"
	}
	return "no answer"
}

func (s *simulation) members(args []string) (string, error) {
	if len(args) != 1 {
		return "", errors.New("members needs one node")
	}
	c, err := s.client(args[0])
	if err != nil {
		return "", err
	}
	defer c.Close()
	cluster, err := c.Cluster(context.Background())
	if err != nil {
		return answerOf(err), nil
	}
	byHealth := map[string][]string{}
	for _, m := range cluster.Members {
		byHealth[m.Health] = append(byHealth[m.Health], m.Name)
	}
	var out []string
	byHealth["alive"] = append(byHealth["alive"], byHealth["suspect"]...) // nobody is sure of that, so no script can be
	for _, health := range []string{"alive", "dead"} {
		if names := byHealth[health]; len(names) > 0 {
			slices.Sort(names)
			out = append(out, health+" "+strings.Join(names, " "))
		}
	}
	return strings.Join(out, ", "), nil
}
