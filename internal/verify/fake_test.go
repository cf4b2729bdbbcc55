package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
)

// fake is a cluster of three nodes without a wire between them, under n=3. Its bugs are those that a test turns on.
type fake struct {
	settings client.BucketSettings
	bug      string
	fault    func(node int, r *http.Request) (status int, body string) // 0 = none; -1 = no answer

	mu       sync.Mutex
	random   *rand.Rand
	next     int               // version
	expires  map[int]time.Time // by version
	hints    []hint
	healing  chan struct{} // closed: nobody makes replicas equal in the background any more
	replicas [3]map[string]object
	down     [3]bool
	servers  [3]*http.Server
	requests sync.WaitGroup
	pipes    [3]*pipes
}

// hint is what a stand-in keeps for a replica.
type hint struct {
	replica int
	key     string
	object  object
}

// heal makes the replicas that are up equal, and delivers hints, every 200 ms.
func (f *fake) heal() {
	for {
		select {
		case <-f.healing:
			return
		case <-time.After(200 * time.Millisecond):
		}
		f.mu.Lock()
		f.hints = slices.DeleteFunc(f.hints, func(h hint) bool {
			if !f.down[h.replica] {
				f.store(h.replica, h.key, h.object)
			}
			return !f.down[h.replica]
		})
		for i := range f.replicas {
			for key := range f.replicas[i] {
				for j := range f.replicas {
					if !f.down[i] && !f.down[j] {
						f.store(j, key, f.replicas[i][key])
					}
				}
			}
		}
		f.mu.Unlock()
	}
}

// object is the versions of a key, and all versions that it has ever known, dead ones included.
type object struct {
	live map[int]string
	seen map[int]bool
}

func (o object) clone() object { return object{maps.Clone(o.live), maps.Clone(o.seen)} }

// merge takes what is new, and drops what the other has seen and does not hold.
func merge(a, b object) object {
	out := object{map[int]string{}, map[int]bool{}}
	maps.Copy(out.seen, a.seen)
	maps.Copy(out.seen, b.seen)
	for v := range out.seen {
		data, in := a.live[v]
		other, with := b.live[v]
		switch {
		case in && (with || !b.seen[v]):
			out.live[v] = data
		case with && !a.seen[v]:
			out.live[v] = other
		}
	}
	return out
}

// covered are the versions of a token; nil for none.
func covered(token string) map[int]bool {
	out := map[int]bool{}
	if token == "" || token == client.NoContext {
		return out
	}
	for s := range strings.SplitSeq(token, ".") {
		v, err := strconv.Atoi(s)
		if err != nil {
			panic(err)
		}
		out[v] = true
	}
	return out
}

func token(seen map[int]bool) string {
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(seen)) {
		parts = append(parts, strconv.Itoa(v))
	}
	return strings.Join(parts, ".")
}

func (o object) covers(seen map[int]bool) bool {
	for v := range seen {
		if !o.seen[v] {
			return false
		}
	}
	return true
}

// newFake serves until the test ends.
func newFake(t *testing.T, bug string) *fake {
	f := &fake{settings: client.DefaultBucket, bug: bug, random: rand.New(rand.NewPCG(1, 2)), expires: map[int]time.Time{}, healing: make(chan struct{})}
	for i := range f.replicas {
		f.replicas[i] = map[string]object{}
		f.pipes[i] = &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		f.servers[i] = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.requests.Add(1)
			defer f.requests.Done()
			f.serve(i, w, r)
		})}
		go func() { _ = f.servers[i].Serve(f.pipes[i]) }()
	}
	t.Cleanup(func() {
		close(f.healing)
		for _, s := range f.servers {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		f.requests.Wait()
	})
	return f
}

// config is a short load on the fake.
func (f *fake) config() Config {
	return Config{
		Nodes: []string{"http://n1:1", "http://n2:1", "http://n3:1"}, Names: []string{"n1", "n2", "n3"},
		Dial: f.dial, Run: "run", Clients: 8, Keys: 4, Timeout: time.Second, Settle: 5 * time.Second,
	}
}

func (f *fake) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	i := int(addr[1] - '1')
	f.mu.Lock()
	down := f.down[i]
	f.mu.Unlock()
	if !down {
		ours, theirs := net.Pipe()
		select {
		case f.pipes[i].conns <- theirs:
			return ours, nil
		case <-ctx.Done():
		}
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s refuses", addr)}
}

func (f *fake) setDown(i int, down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[i] = down
}

// pipes is a listener on net.Pipe.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (f *fake) serve(node int, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	f.mu.Lock()
	took := time.Duration(f.random.IntN(3000)) * time.Microsecond
	down := f.down[node]
	f.mu.Unlock()
	time.Sleep(took)
	if down {
		panic(http.ErrAbortHandler)
	}
	if f.fault != nil {
		switch status, text := f.fault(node, r); {
		case status < 0:
			<-r.Context().Done()
			return
		case status > 0:
			refuse(w, status, text)
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	path, err := url.PathUnescape(r.URL.EscapedPath())
	if err != nil {
		panic(err)
	}
	switch parts := strings.SplitN(path, "/", 5); {
	case path == "/readyz":
	case parts[2] == "buckets":
		reply(w, f.settings)
	case parts[2] == "explain":
		f.explain(w, parts[4])
	case r.Method == http.MethodGet:
		f.get(node, w, r, parts[4])
	default:
		f.write(node, w, r, parts[4], string(body))
	}
}

func refuse(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func reply(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(b)
}

// reachable are the replicas that are up, a node's own first.
func (f *fake) reachable(node int) []int {
	var out []int
	for i := range 3 {
		if r := (node + i) % 3; !f.down[r] {
			out = append(out, r)
		}
	}
	if f.chance(50) && len(out) == 3 {
		out[1], out[2] = out[2], out[1]
	}
	return out
}

func (f *fake) chance(percent int) bool { return f.random.IntN(100) < percent }

func (f *fake) get(node int, w http.ResponseWriter, r *http.Request, key string) {
	up := f.reachable(node)
	need := map[string]int{"": 2, "1": 1, "all": 3}[r.URL.Query().Get("r")]
	asked := covered(r.Header.Get("Rondo-Context"))
	var got object
	replied := 0
	for _, i := range up {
		if replied < need || !got.covers(asked) && f.bug != "session ignored" {
			got = merge(got, f.replicas[i][key])
			replied++
		}
		if f.bug == "stale reads" && need == 2 && replied == 1 && f.chance(30) {
			break
		}
	}
	if replied < need && f.bug != "stale reads" {
		refuse(w, 503, `{"code":"quorum_unavailable"}`)
		return
	}
	if !got.covers(asked) && f.bug != "session ignored" {
		refuse(w, 504, `{"code":"quorum_timeout"}`)
		return
	}
	if need > 1 && f.bug != "stale reads" {
		for _, i := range up[:min(replied, len(up))] {
			f.store(i, key, got)
		}
	}
	receipt := fmt.Sprintf(`{"n":3,"required":%d,"replied":%d,"agreed":true,"ring":1,"coordinator":"n%d"}`, need, max(replied, need), node+1)
	if f.bug == "read receipts" && need == 2 && f.chance(10) {
		receipt = strings.Replace(receipt, `"replied":2`, `"replied":1`, 1)
	}
	if len(f.shown(got).live) == 0 {
		reason := "never_written"
		if len(got.seen) > 0 {
			reason = "deleted"
			w.Header().Set("Rondo-Context", token(got.seen))
		}
		refuse(w, 404, `{"code":"key_not_found","reason":"`+reason+`","receipt":`+receipt+`}`)
		return
	}
	fmt.Fprintf(w, `{"bucket":"verify","key":%q,"context":%q,"values":[%s],"receipt":%s}`, key, token(got.seen), f.values(f.shown(got)), receipt)
}

// shown is an object without what has expired.
func (f *fake) shown(o object) object {
	if f.bug == "expired shown" {
		return o
	}
	o = o.clone()
	maps.DeleteFunc(o.live, func(v int, _ string) bool { return !f.expires[v].IsZero() && !f.expires[v].After(time.Now()) })
	return o
}

func (f *fake) values(o object) string {
	var parts []string
	for _, v := range slices.Backward(slices.Sorted(maps.Keys(o.live))) {
		data := o.live[v]
		if f.bug == "altered bytes" && f.chance(1) {
			data = strings.Replace(data, "-", "+", 1)
		}
		expires := ""
		if at := f.expires[v]; !at.IsZero() {
			expires = fmt.Sprintf(`,"expires":%q`, at.Format(time.RFC3339Nano))
		}
		parts = append(parts, fmt.Sprintf(`{"value":%s,"content_type":"application/json","modified":"2026-11-21T10:00:00Z","version":"%d"%s}`, data, v, expires))
	}
	return strings.Join(parts, ",")
}

func (f *fake) store(i int, key string, o object) {
	if f.bug == "never converges" && i == 2 && len(f.replicas[i][key].live) > 0 {
		return
	}
	f.replicas[i][key] = merge(f.replicas[i][key], o)
}

func (f *fake) write(node int, w http.ResponseWriter, r *http.Request, key, body string) {
	up := f.reachable(node)
	standins := 0
	if len(up) == 1 && r.URL.Query().Get("sloppy") == "true" {
		standins = 1
	}
	if len(up)+standins < 2 {
		refuse(w, 503, `{"code":"quorum_unavailable","outcome":"not_applied"}`)
		return
	}
	if f.bug == "dishonest failures" && f.chance(5) {
		defer refuse(w, 503, `{"code":"quorum_unavailable","outcome":"not_applied"}`)
		w = discard{w}
	}
	sent := r.Header.Get("Rondo-Context")
	past := covered(sent)
	o := f.replicas[up[0]][key].clone()
	if sent == "" {
		past = maps.Clone(o.seen)
	}
	if o.seen == nil {
		o = object{map[int]string{}, map[int]bool{}}
	}
	if f.bug == "last writer wins" {
		past = maps.Clone(o.seen)
	}
	for v := range past {
		delete(o.live, v)
		o.seen[v] = true
	}
	f.next++
	o.seen[f.next] = true
	if r.Method == http.MethodPut {
		o.live[f.next] = body
	}
	if ttl, err := time.ParseDuration(r.URL.Query().Get("ttl")); err == nil {
		f.expires[f.next] = time.Now().Add(ttl)
	}
	if past == nil {
		past = map[int]bool{}
	}
	past[f.next] = true
	lost := f.bug == "lost writes" && f.chance(2) || f.bug == "lost deletes" && r.Method == http.MethodDelete && f.chance(20)
	if f.bug == "lost elements" && strings.Contains(body, `","`) && f.chance(5) {
		delete(o.live, f.next) // it is counted as seen, and its bytes are gone
	}
	if !lost {
		for n, i := range up {
			if n < 2 || f.chance(50) {
				f.store(i, key, o)
			}
		}
	}
	if standins > 0 {
		f.hints = append(f.hints, hint{(up[0] + 1) % 3, key, o.clone()})
	}
	if f.bug == "stand-ins of their own accord" && f.chance(5) {
		standins = 1
	}
	acked, durable := 2, 2
	if f.bug == "write receipts" && f.chance(5) {
		acked = 1
	}
	if f.bug == "unsynced" && f.chance(5) {
		durable = 1
	}
	fmt.Fprintf(w, `{"bucket":"verify","key":%q,"context":%q,"version":"%d","receipt":{"n":3,"required":2,"acked":%d,"durable":%d,"standins":%d,"ring":1,"coordinator":"n1"}}`,
		key, token(past), f.next, acked, durable, standins)
}

// discard is an answer that nobody gets.
type discard struct{ http.ResponseWriter }

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func (f *fake) explain(w http.ResponseWriter, key string) {
	var parts []string
	for i := range f.replicas {
		o := f.replicas[i][key]
		h := fnv.New64()
		fmt.Fprint(h, token(o.seen), f.values(o))
		problem := ""
		if f.down[i] || f.bug == "mute replica" && i == 1 {
			problem = "unreachable"
		}
		parts = append(parts, fmt.Sprintf(`{"node":"n%d","role":"owner","found":%t,"values":[%s],"tombstones":0,"digest":"%x","ms":0.1,"error":%q}`,
			i+1, len(o.seen) > 0, f.values(o), h.Sum64(), problem))
	}
	parts = append(parts, `{"node":"n4","role":"standin","found":false,"values":[],"digest":"0","ms":0.1,"error":""}`)
	fmt.Fprintf(w, `{"partition":1,"token":"00","preference":["n1","n2","n3"],"replicas":[%s]}`, strings.Join(parts, ","))
}
