package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// Server is the API of one node. Safe for concurrent use.
type Server struct {
	Config
	router    chi.Router
	http      *http.Server
	cancel    context.CancelFunc // ends every request
	stopping  context.Context    // ends what would hold up Shutdown
	stop      context.CancelFunc // of stopping
	exchanges sync.Pool
	requests  atomic.Int64 // client requests in flight
	bodies    budget
	conns     atomic.Int64 // open connections
	repairs   atomic.Int64 // that operators asked for, running now
	draining  atomic.Bool
	hurry     atomic.Bool // the time to drain is over
}

// New makes a server and starts nothing.
func New(config Config) (*Server, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Server{Config: config, bodies: budget{most: config.MaxBodies}}
	s.exchanges.New = func() any { return new(exchange) }
	s.router = s.routes()
	if err := s.Metrics.attach(s); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.stopping, s.stop = context.WithCancel(ctx)
	s.http = &http.Server{
		Handler:                      s.Handler(),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  maxTimeout + 15*time.Second,   // head and body
		WriteTimeout:                 2*maxTimeout + 60*time.Second, // body, work and the answer to a slow reader
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			if own, ok := c.(*conn); ok && state == http.StateIdle {
				own.served.Store(false)
				own.unread.Store(false)
			}
		},
	}
	return s, nil
}

type connKey struct{}

// Handler is the whole API, without the limits on connections that Serve adds.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// serveHTTP takes the requests on keys past the router: their paths are bytes, and they are nearly all of the load.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.served.Store(true)
	}
	if path := rawPath(r.URL); strings.HasPrefix(path, kvPrefix) {
		if rest := path[len(kvPrefix):]; rest == "" || strings.IndexByte(rest, '/') >= 0 {
			s.serveKV(w, r)
			return
		}
	}
	s.router.ServeHTTP(w, r)
}

// Serve answers the connections of l until Shutdown, and returns nil then. It closes l.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(newLimitListener(l, s.MaxConnections, &s.conns, &s.hurry))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, ends repairs, finishes what else is in flight until ctx ends, then cuts it off. It returns when no connection is
// left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.stop()
	err := s.http.Shutdown(ctx)
	s.cancel()
	if err != nil {
		s.hurry.Store(true)
		err = errors.Join(fmt.Errorf("drain API: %w", err), s.http.Close())
	}
	for limit := time.Now().Add(2 * time.Second); s.conns.Load() > 0 && time.Now().Before(limit); {
		time.Sleep(time.Millisecond) // their goroutines are on the way out
	}
	return err
}

// newRequestID names a request for logs and problem documents.
func newRequestID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
