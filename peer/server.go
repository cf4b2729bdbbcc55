package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

const (
	textStopping  = "the node is shutting down"
	flushTime     = 200 * time.Millisecond // Close: to send the last answers
	refusalsKept  = 256                    // refusals that are remembered so as not to log them again
	acceptPause   = 5 * time.Millisecond   // after a failed accept, doubled up to acceptLongest
	acceptLongest = time.Second
)

// Server is the answering side: it takes connections from other nodes and has the handler answer what they ask. New, Open,
// Close; safe for concurrent use.
type Server struct {
	config   Config
	began    time.Time       // zero of the server's clock
	ctx      context.Context // ends when Close gives up waiting
	cancel   context.CancelFunc
	listener net.Listener
	running  sync.WaitGroup // accept loop, watch, connections
	workers  *pool
	callers  *pool
	bytes    *budget
	jobs     sync.Pool

	draining atomic.Bool
	inFlight atomic.Int64
	drained  chan struct{} // told when inFlight reaches 0 while draining

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]*serverConn // nil until the hello has succeeded
	sessions map[session]*serverConn  // the ordinary connections
	refusals map[string]struct{}

	bytesIn, bytesOut, framesIn, framesOut, refused atomic.Uint64
}

// session names a pair of connections.
type session struct {
	from   ring.NodeID
	number uint64
}

// NewServer checks the configuration. It starts nothing.
func NewServer(config Config) (*Server, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if config.Handler == nil {
		return nil, errors.New("peer server needs a handler")
	}
	if config.Listener == nil && config.Listen == "" {
		return nil, errors.New("peer server needs an address to listen on")
	}
	s := &Server{
		config: config, began: time.Now(), drained: make(chan struct{}, 1),
		workers: newPool(config.Workers, config.Queue), callers: newPool(config.CallWorkers, config.CallWorkers), bytes: newBudget(config.MaxInFlight),
		conns: map[net.Conn]*serverConn{}, sessions: map[session]*serverConn{}, refusals: map[string]struct{}{},
	}
	s.jobs.New = func() any {
		j := &job{}
		j.done = j.written
		return j
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Open listens and begins to serve. It is called once.
func (s *Server) Open() error {
	if s.listener = s.config.Listener; s.listener == nil {
		l, err := net.Listen("tcp", s.config.Listen)
		if err != nil {
			return fmt.Errorf("listen for peers: %w", err)
		}
		s.listener = l
	}
	s.running.Go(s.accept)
	s.running.Go(s.watch)
	return nil
}

// Addr is the address that the server listens on, nil before Open.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// now is the server's clock: nanoseconds since it was made, monotonic.
func (s *Server) now() int64 { return int64(time.Since(s.began)) }

// finished ends a request that newJob has begun.
func (s *Server) finished() {
	if s.inFlight.Add(-1) == 0 && s.draining.Load() {
		select {
		case s.drained <- struct{}{}:
		default:
		}
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept() {
	pause := acceptPause
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			pause = acceptPause
			s.admit(nc)
			continue
		}
		if s.draining.Load() || errors.Is(err, net.ErrClosed) {
			return
		}
		s.config.Logger.Warn("could not accept a peer connection, will try again", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return
		}
		pause = min(2*pause, acceptLongest)
	}
}

// admit serves a connection on a goroutine of its own, unless there are too many.
func (s *Server) admit(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.config.MaxConns {
		s.logOnce("too many peer connections", "limit", s.config.MaxConns)
		nc.Close() // nothing was sent on it
		return
	}
	s.conns[nc] = nil
	s.running.Go(func() { s.serve(nc) })
}

// serve is the life of one connection, and its reader.
func (s *Server) serve(nc net.Conn) {
	c, err := s.greet(nc)
	if err == nil {
		var writer sync.WaitGroup
		writer.Go(c.writeLoop)
		if s.config.Met != nil && c.class == classOrdinary {
			s.config.Met(c.from)
		}
		err = c.readLoop()
		c.close(err)
		writer.Wait()
	}
	s.forget(nc, c)
	nc.Close() // where the hello failed; else it is closed already
	if c == nil {
		s.report(err, nc.RemoteAddr().String())
	} else {
		s.report(err, string(c.from))
	}
}

// report logs the end of a connection: what another node does wrong once, the ordinary ends for those who debug.
func (s *Server) report(err error, from string) {
	text, refused := reasonOf(err)
	switch {
	case refused:
		s.mu.Lock()
		s.logOnce("peer connection refused", "reason", text)
		s.mu.Unlock()
	case errors.Is(err, errFrame) || errors.Is(err, errMessage):
		s.config.Logger.Warn("peer connection closed", "peer", from, "error", err)
	default:
		s.config.Logger.Debug("peer connection ended", "peer", from, "error", err)
	}
}

// logOnce warns of what it has not warned of before. Called with mu held.
func (s *Server) logOnce(message, name string, value any) {
	key := fmt.Sprint(message, value)
	if _, ok := s.refusals[key]; ok {
		return
	}
	if len(s.refusals) >= refusalsKept {
		clear(s.refusals)
	}
	s.refusals[key] = struct{}{}
	s.config.Logger.Warn(message, name, value)
}

// greet exchanges hellos. On an error nothing is registered.
func (s *Server) greet(nc net.Conn) (*serverConn, error) {
	if err := tune(nc, userTimeout); err != nil {
		return nil, fmt.Errorf("set up connection: %w", err)
	}
	if err := nc.SetDeadline(time.Now().Add(s.config.HelloTimeout)); err != nil {
		return nil, fmt.Errorf("set up connection: %w", err)
	}
	theirs, err := readHello(nc)
	if err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	mine := hello{
		versions: s.config.versions, class: theirs.class, session: theirs.session, cluster: s.config.Cluster,
		from: s.config.Self, to: theirs.from, identity: s.config.ClusterID(),
	}
	var c *serverConn
	_, refusal := agree(mine, theirs, "")
	if refusal == nil {
		c, refusal = s.register(nc, theirs)
	}
	if refusal != nil {
		mine.refusal, _ = reasonOf(refusal)
	}
	_, err = nc.Write(appendHello(nil, mine))
	if refusal != nil {
		return nil, refusal
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		s.forget(nc, c)
		return nil, fmt.Errorf("answer hello: %w", err)
	}
	c.attach(nc)
	return c, nil
}

// register makes a connection known to its pair.
func (s *Server) register(nc net.Conn, theirs hello) (*serverConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &serverConn{server: s, from: theirs.from, class: theirs.class, session: theirs.session}
	c.init(&s.bytesOut)
	c.received.Store(s.now())
	key := session{theirs.from, theirs.session}
	ordinary := s.sessions[key]
	switch {
	case s.closed:
		return nil, &refusedError{textStopping}
	case theirs.class == classOrdinary && ordinary == nil:
		s.sessions[key] = c
	case theirs.class == classLarge && ordinary != nil:
		ordinary.large.Store(c)
	default:
		return nil, &refusedError{fmt.Sprintf("a connection of class %d does not fit into its session", theirs.class)}
	}
	s.conns[nc] = c
	return c, nil
}

// forget undoes admit and register.
func (s *Server) forget(nc net.Conn, c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
	if c == nil {
		return
	}
	key := session{c.from, c.session}
	ordinary := s.sessions[key]
	switch {
	case ordinary == c:
		delete(s.sessions, key)
	case ordinary != nil:
		ordinary.large.CompareAndSwap(c, nil)
	}
}

// watch closes connections on which nothing comes any more, not even the pings of an idle client.
func (s *Server) watch() {
	tick := time.NewTicker(s.config.IdleTimeout / 4)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for _, c := range s.conns {
			if c != nil && s.now()-c.received.Load() > int64(s.config.IdleTimeout) {
				c.close(fmt.Errorf("nothing received for %v", s.config.IdleTimeout))
			}
		}
		s.mu.Unlock()
	}
}

// Close stops taking requests, waits up to DrainTime until those that were begun are answered, and ends every connection. It
// returns when all goroutines of the server are gone; a done of Handler.Write may still be called later.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed || s.listener == nil {
		s.closed = true
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.draining.Store(true)
	err := ignoreClosed(s.listener.Close())
	if s.inFlight.Load() > 0 {
		timer := time.NewTimer(s.config.DrainTime)
		select {
		case <-s.drained:
		case <-timer.C:
		}
		timer.Stop()
	}
	s.cancel()
	s.bytes.close()
	s.mu.Lock()
	for nc, c := range s.conns {
		if c == nil {
			nc.Close() // still in its hello
			continue
		}
		if nc.SetWriteDeadline(time.Now().Add(flushTime)) != nil {
			nc.Close() // broken already
		}
		c.drain()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.workers.close()
	s.callers.close()
	return err
}
