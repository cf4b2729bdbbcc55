package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rondodb/rondo/gossip"
	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/internal/memnet"
	"github.com/rondodb/rondo/internal/verify"
	"github.com/rondodb/rondo/peer"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
)

// simulation is a whole cluster in one bubble of virtual time: complete nodes, each on a host of an in-memory network with a disk in
// memory that forgets what was not synced, and a clock of its own. Its methods are for one goroutine.
type simulation struct {
	dir     string // for the nodes' identities, which are small real files
	random  *rand.Rand
	network *memnet.Network
	clients *memnet.Host
	hosts   []*simHost
	log     *simLog
	faults  []*linkFault // of the network, at present

	load     *verify.Verifier
	loading  sync.WaitGroup
	stopLoad context.CancelFunc
	loadErr  error
	late     sync.WaitGroup // ends of faults that last for a while
	busy     chan struct{}  // holds a token while the cluster is changed; no mutex, since time passes meanwhile
	zombies  sync.WaitGroup // nodes whose machine is gone
	repair   simRepair      // of nodes that start from now on
	tokens   map[string]string
	result   *verify.Result // of finish
	problems []string       // what must not happen and no history shows
	ended    chan struct{}  // closed when nothing more is to be broken
	began    time.Time
}

// simHost is a machine: what a power cut leaves of it goes on in the next boot.
type simHost struct {
	name, ip string
	index    int
	boots    int
	dir      string
	disk     *memdisk.Disk
	saved    *simSnapshot
	id       ring.NodeID
	net      *memnet.Host // of this boot
	node     *Node        // nil while it is down
	clock    simClock
	pauses   int  // faults that hold it
	sick     bool // its disk has been made to refuse writes
	waiting  bool // it could not start on a full disk
}

// running is the node's present life, nil while it is down or just opened again.
func (h *simHost) running() *life {
	if h.node == nil {
		return nil
	}
	return h.node.current()
}

// simSnapshot is a copy of a machine's disk.
type simSnapshot struct {
	disk     *memdisk.Disk
	identity []byte
}

// simClock is a wall clock that is wrong.
type simClock struct {
	ahead atomic.Int64 // nanoseconds
	since atomic.Int64 // when it began to drift, Unix nanoseconds; 0 = it does not
	rate  atomic.Int64 // drift, millionths
}

func (c *simClock) now() time.Time {
	now := time.Now()
	ahead := c.ahead.Load()
	if since := c.since.Load(); since != 0 {
		ahead += (now.UnixNano() - since) / 1e6 * c.rate.Load()
	}
	return now.Add(time.Duration(ahead))
}

// simLog keeps what the nodes log, as far as it was kept, with the cluster's own events.
type simLog struct {
	mu    sync.Mutex
	lines []string
}

const simLogLines = 4000

func (l *simLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) >= simLogLines {
		l.lines = slices.Clone(l.lines[simLogLines/2:])
	}
	l.lines = append(l.lines, strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func (l *simLog) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-n):], "\n")
}

// newSimulation must be called in the bubble.
func newSimulation(dir string, seed uint64) *simulation {
	s := &simulation{
		dir: dir, random: rand.New(rand.NewPCG(seed, 1)), network: memnet.New(seed), log: &simLog{},
		tokens: map[string]string{}, busy: make(chan struct{}, 1), ended: make(chan struct{}), began: time.Now(),
	}
	s.clients = s.network.Host(simClientIP)
	return s
}

const simClientIP = "10.9.9.9"

// note writes into the log of the run, and into that of the load.
func (s *simulation) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(s.log, "--- %v %s", time.Since(s.began).Round(time.Millisecond), text)
	if s.load != nil {
		s.load.Note(text)
	}
}

func (s *simulation) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
	s.note("PROBLEM: "+format, args...)
}

// start makes a cluster of count nodes and waits until each is ready.
func (s *simulation) start(count int) error {
	for i := range count {
		h := &simHost{name: "n" + strconv.Itoa(i+1), ip: "10.0.0." + strconv.Itoa(i+1), index: i, disk: memdisk.New()}
		s.hosts = append(s.hosts, h)
	}
	s.relink()
	for _, h := range s.hosts {
		if err := s.boot(h); err != nil {
			return err
		}
	}
	return s.awaitReady(time.Minute)
}

// linkFault is something wrong with the network: change alters the rules of the links that it concerns.
type linkFault struct {
	change func(from, to string, r *memnet.Rule) // names of nodes; "" = the clients
}

// relink gives every link the rule that follows from the faults at present.
func (s *simulation) relink() {
	names := map[string]string{simClientIP: ""}
	for _, h := range s.hosts {
		names[h.ip] = h.name
	}
	for from, fromName := range names {
		for to, toName := range names {
			if from == to {
				continue
			}
			r := memnet.Rule{Delay: simDelay, Jitter: simJitter}
			for _, f := range s.faults {
				f.change(fromName, toName, &r)
			}
			s.network.SetLink(from, to, r)
		}
	}
}

// Each message takes this long at least, and up to this much more.
const (
	simDelay  = 100 * time.Microsecond
	simJitter = 400 * time.Microsecond
)

func (s *simulation) urls() (urls, names []string) {
	for _, h := range s.hosts {
		urls = append(urls, "http://"+h.ip+":7070")
		names = append(names, h.name)
	}
	return urls, names
}

func (s *simulation) host(name string) (*simHost, error) {
	for _, h := range s.hosts {
		if h.name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", name)
}

// boot starts a node with what its disk holds.
func (s *simulation) boot(h *simHost) error {
	if h.node != nil {
		return nil
	}
	h.boots++
	dir := filepath.Join(s.dir, fmt.Sprintf("%s.%d", h.name, h.boots))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if h.dir == "" { // the seed fixes identities, and with them the ring
		id := fmt.Sprintf("%016x%016x", s.random.Uint64(), s.random.Uint64())
		h.id = ring.NodeID(id)
		identity := fmt.Sprintf(`{"format":1,"id":%q,"created":"2000-01-01T00:00:00Z"}`, id)
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(identity), 0o600); err != nil {
			return err
		}
	} else if err := os.Link(filepath.Join(h.dir, identityFile), filepath.Join(dir, identityFile)); err != nil {
		return err // a link, since a copy would look like a restored one; the process before may still hold its directory
	}
	h.dir = dir
	return s.open(h)
}

// identityFile is what of a data directory is in no database.
const identityFile = "node.json"

// snapshot copies a machine's disk as it is at this instant.
func (s *simulation) snapshot(h *simHost) error {
	b, err := os.ReadFile(filepath.Join(h.dir, identityFile))
	if err != nil {
		return err
	}
	h.saved = &simSnapshot{h.disk.Clone(), b}
	return nil
}

// restore puts the copy in place of the disk of a machine that is down.
func (s *simulation) restore(h *simHost) error {
	if h.saved == nil {
		return fmt.Errorf("there is no snapshot of %s", h.name)
	}
	h.disk.Detach()
	h.disk = h.saved.disk.Clone()
	path := filepath.Join(h.dir, identityFile)
	if err := os.WriteFile(path+".restored", h.saved.identity, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".restored", path) // another file than the one that was copied
}

// open starts a node in its directory.
func (s *simulation) open(h *simHost) error {
	s.resume(h)
	handle := s.network.Host(h.ip)
	disk, seed, repair := h.disk, s.random.Uint64(), s.repair
	var join []string
	for _, other := range s.hosts {
		join = append(join, other.ip+":7072")
	}
	n, err := New(Config{
		Data: h.dir, Name: h.name, Cluster: "sim", HTTP: h.ip + ":7070", Peer: h.ip + ":7071", Gossip: h.ip + ":7072",
		Join: join, Expect: len(s.hosts), Insecure: true, Partitions: 16, Cache: minCache, HintLimit: repair.hintLimit,
		machine: machine{
			listen: func(addr string) (net.Listener, error) { return handle.Listen(addr) },
			withStorage: func(c *storage.Config) {
				c.Backend, c.WriteBuffer, c.BlockCacheBytes = disk, 64<<10, 256<<10
			},
			withRepair: repair.apply,
			withPeer: func(c *peer.Config) {
				c.Dial = handle.Dial
				c.Rand = rand.New(rand.NewPCG(seed, 2))
			},
			withGossip: func(c *gossip.Config) {
				t, err := handle.Transport(h.ip + ":7072")
				if err != nil {
					s.problem("%s: %v", h.name, err)
					return
				}
				c.Transport = t
				c.Rand = rand.New(rand.NewPCG(seed, 3))
			},
			now: h.clock.now,
		},
	}, slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: s.shortTime})).With("node", h.name))
	if err != nil {
		return err
	}
	if err := n.Open(); err != nil {
		handle.Crash(false)
		if errors.Is(err, syscall.ENOSPC) && h.sick { // somebody starts it again when there is room: see cure
			s.note("%s cannot start: %v", h.name, err)
			h.waiting = true
			return nil
		}
		return fmt.Errorf("start %s: %w", h.name, err)
	}
	h.net, h.node = handle, n
	return nil
}

func (s *simulation) pause(h *simHost) {
	h.pauses++
	s.network.Pause(h.ip)
}

func (s *simulation) resume(h *simHost) {
	h.pauses = 0
	s.network.Resume(h.ip)
}

// shortTime makes the time of log lines that since the beginning of the run.
func (s *simulation) shortTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Duration("t", a.Value.Time().Sub(s.began).Round(time.Millisecond))
	}
	return a
}

// crash takes a machine away at this instant. power says whether the power is gone, and with it what was not synced; otherwise the
// process is killed, and the kernel resets its connections and writes out what it was given.
func (s *simulation) crash(h *simHost, power bool) {
	if h.node == nil {
		return
	}
	h.net.Crash(power) // first: nothing is acknowledged from here on
	residue := memdisk.Everything
	if power {
		residue = memdisk.Nothing
		if s.random.IntN(2) == 0 {
			residue = memdisk.Something
		}
	}
	s.lose(h, residue)
}

// lose gives a machine that was taken away the disk that is found afterwards.
func (s *simulation) lose(h *simHost, residue memdisk.Residue) {
	old := h.disk
	old.Detach()
	if residue == memdisk.Everything {
		h.disk = old.Clone() // what was not synced still is not
	} else {
		h.disk = old.Crash(residue, s.random)
	}
	s.bury(h)
}

// bury waits in the background for the end of a process whose machine is gone. What it says on the way means nothing.
func (s *simulation) bury(h *simHost) {
	zombie := h.node
	h.node, h.net = nil, nil
	s.zombies.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = zombie.Close(ctx)
	})
}

// drain stops a node cleanly; reopen brings it back.
func (s *simulation) drain(h *simHost) {
	if h.node == nil {
		return
	}
	if err := s.halt(h); err != nil {
		s.problem("stop %s: %v", h.name, err)
	}
	h.net.Crash(false) // whatever still hangs on it
	h.node, h.net = nil, nil
}

// halt ends a process as SIGTERM does. A disk that refuses writes may keep it from ending cleanly.
func (s *simulation) halt(h *simHost) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := h.node.Close(ctx); !h.sick {
		return err
	}
	return nil
}

// reopen starts a drained node again in the directory that it left cleanly.
func (s *simulation) reopen(h *simHost) error {
	if h.node != nil {
		return nil
	}
	return s.open(h)
}

// awaitReady waits until every node that is up says it can serve.
func (s *simulation) awaitReady(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		var waits []string
		for _, h := range s.hosts {
			if h.node == nil {
				continue
			}
			if ok, why := h.node.Ready(); !ok {
				waits = append(waits, h.name+": "+why)
			}
		}
		if len(waits) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %s", limit, strings.Join(waits, "; "))
		}
	}
}

// startLoad has clients work in the background until stop.
func (s *simulation) startLoad(c verify.Config) error {
	if s.load != nil {
		return errors.New("there is a load already")
	}
	c.Nodes, c.Names = s.urls()
	c.Dial = s.dialFromClients
	var err error
	if s.load, err = verify.New(c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopLoad = cancel
	s.loading.Go(func() { s.loadErr = s.load.Load(ctx) })
	return nil
}

func (s *simulation) dialFromClients(ctx context.Context, _, addr string) (net.Conn, error) {
	return s.clients.Dial(ctx, addr)
}

// healAll ends all that is wrong and waits until the cluster is whole.
func (s *simulation) healAll() error {
	s.end()
	s.note("heal everything")
	s.healNetwork()
	for _, h := range s.hosts {
		s.resume(h)
		s.fixClock(h)
		if err := s.cure(h); err != nil {
			return err
		}
		if err := s.boot(h); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := s.awaitReady(time.Minute); err != nil {
		return err
	}
	if err := s.awaitWhole(time.Minute); err != nil {
		return err
	}
	s.note("whole again after %v", time.Since(began).Round(time.Millisecond))
	return nil
}

// end lets no fault end or begin by itself any more.
func (s *simulation) end() {
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	s.late.Wait()
}

func (s *simulation) fixClock(h *simHost) {
	h.clock.ahead.Store(0)
	h.clock.since.Store(0)
}

// healNetwork makes every link as it was in the beginning.
func (s *simulation) healNetwork() {
	s.faults = nil
	s.relink()
}

// cure gives a sick disk its room back. A node that runs finds that out by itself; one that could not start is started once more.
func (s *simulation) cure(h *simHost) error {
	h.disk.SetCapacity(0)
	if !h.waiting {
		return nil
	}
	h.waiting = false
	return s.boot(h)
}

// awaitWhole waits until every node is up and sees every other alive, and all have one ring.
func (s *simulation) awaitWhole(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		s.busy <- struct{}{} // a fault may just end
		wrong := s.notWhole()
		<-s.busy
		if wrong == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not whole after %v: %s", limit, wrong)
		}
	}
}

// notWhole says what keeps the cluster from being whole. The caller holds the token.
func (s *simulation) notWhole() string {
	var wrong []string
	rings := map[string]bool{}
	for _, h := range s.hosts {
		if h.running() == nil {
			return h.name + " is down"
		}
	}
	for _, h := range s.hosts {
		n := h.running()
		l := n.members.Layout()
		if l == nil {
			wrong = append(wrong, h.name+" has no ring")
			continue
		}
		rings[fmt.Sprint(l.Version(), " ", l.Hash())] = true
		for _, other := range s.hosts {
			if !n.members.Alive(other.id) {
				wrong = append(wrong, fmt.Sprintf("%s does not see %s", h.name, other.name))
			}
		}
	}
	if len(rings) > 1 {
		wrong = append(wrong, fmt.Sprintf("%d rings", len(rings)))
	}
	return strings.Join(wrong, "; ")
}

// finish ends the load, heals everything, and judges what the clients saw.
func (s *simulation) finish() (*verify.Result, error) {
	if s.load == nil {
		return nil, errors.New("there was no load to judge")
	}
	s.stopLoad()
	s.loading.Wait()
	if s.loadErr != nil {
		return nil, fmt.Errorf("load: %w", s.loadErr)
	}
	if err := s.healAll(); err != nil {
		return nil, err
	}
	return s.load.Finish(context.Background())
}

// close stops everything; the bubble is empty afterwards.
func (s *simulation) close() error {
	errs := make([]error, len(s.hosts))
	if s.stopLoad != nil {
		s.stopLoad()
		s.loading.Wait()
	}
	s.end()
	if s.load != nil {
		s.load.Close()
	}
	s.healNetwork()
	var group sync.WaitGroup
	for i, h := range s.hosts {
		s.resume(h)
		if h.node == nil {
			continue
		}
		group.Go(func() {
			if err := s.halt(h); err != nil {
				errs[i] = fmt.Errorf("close %s: %w", h.name, err)
			}
		})
	}
	group.Wait()
	s.zombies.Wait()
	for _, h := range s.hosts {
		if h.net != nil {
			h.net.Crash(false)
		}
	}
	s.clients.Crash(false)
	return errors.Join(errs...)
}

// simDir is where the identities of simulated nodes go: into memory where there is a file system for it, since their fsyncs are
// not what is simulated.
func simDir(t interface {
	Cleanup(func())
	Fatal(...any)
	Error(...any)
},
) string {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "rondo-sim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
