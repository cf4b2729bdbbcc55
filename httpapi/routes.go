package httpapi

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/rondodb/rondo/quorum"
)

// op names a kind of request in metrics and logs.
type op uint8

const (
	opOther op = iota
	opGet
	opPut
	opDelete
	opList
	opExplain
	opBuckets
	opBucketPut
	opBucketDelete
	opCluster
	opRepair
	opHealth
	opMetrics
	opDocs
	opCount
)

func (o op) String() string {
	return [...]string{
		"other", "get", "put", "delete", "list", "explain", "buckets", "bucket_put", "bucket_delete", "cluster", "repair", "health", "metrics", "docs",
	}[o]
}

// writes tells whether errors must say what became of a change.
func (x *exchange) writes() bool {
	switch x.r.Method {
	case http.MethodPut, http.MethodDelete, http.MethodPost, http.MethodPatch:
		return true
	}
	return false
}

// client tells whether the request counts as load. Operators get an answer from a node that is full, too.
func (o op) client() bool {
	return o >= opGet && o <= opExplain || o == opBucketPut || o == opBucketDelete
}

// route is one operation of the API.
type route struct {
	method, pattern string
	op              op
	handle          func(*exchange)
}

// table lists every operation. HEAD is answered wherever GET is.
func table() []route {
	const key = kvPrefix + "{bucket}/*"
	return []route{
		{http.MethodGet, "/", opDocs, (*exchange).root},
		{http.MethodGet, key, opGet, (*exchange).get},
		{http.MethodHead, key, opGet, (*exchange).get},
		{http.MethodPut, key, opPut, (*exchange).put},
		{http.MethodDelete, key, opDelete, (*exchange).delete},
		{http.MethodGet, kvPrefix + "{bucket}", opList, (*exchange).list},
		{http.MethodGet, "/v1/buckets", opBuckets, (*exchange).bucketList},
		{http.MethodGet, bucketsPrefix + "*", opBuckets, (*exchange).bucketGet},
		{http.MethodPut, bucketsPrefix + "*", opBucketPut, (*exchange).bucketPut},
		{http.MethodDelete, bucketsPrefix + "*", opBucketDelete, (*exchange).bucketDelete},
		{http.MethodGet, explainPrefix + "*", opExplain, (*exchange).explain},
		{http.MethodGet, "/v1/cluster", opCluster, (*exchange).cluster},
		{http.MethodGet, "/v1/cluster/ring", opCluster, (*exchange).ring},
		{http.MethodPost, "/v1/cluster/ring", opCluster, (*exchange).later},
		{http.MethodDelete, "/v1/cluster/ring/change", opCluster, (*exchange).later},
		{http.MethodGet, "/v1/cluster/safe-to-stop", opCluster, (*exchange).later},
		{http.MethodPost, "/v1/repair", opRepair, (*exchange).repair},
		{http.MethodGet, "/v1/hints", opCluster, (*exchange).hints},
		{http.MethodPost, "/v1/hints", opCluster, (*exchange).pauseHints},
		{http.MethodGet, "/v1/tombstones", opCluster, (*exchange).tombstones},
		{http.MethodGet, "/v1/node", opCluster, (*exchange).node},
		{http.MethodGet, "/livez", opHealth, (*exchange).livez},
		{http.MethodGet, "/readyz", opHealth, (*exchange).readyz},
		{http.MethodGet, "/metrics", opMetrics, (*exchange).metrics},
		{http.MethodGet, "/openapi.json", opDocs, (*exchange).openapi},
		{http.MethodGet, problemsPrefix + "{code}", opDocs, (*exchange).problem},
	}
}

// routes makes the router. It compares paths as they were sent, and never redirects.
func (s *Server) routes() chi.Router {
	r := chi.NewRouter()
	for _, t := range table() {
		handler := func(w http.ResponseWriter, req *http.Request) { s.run(w, req, t.op, t.handle) }
		r.MethodFunc(t.method, t.pattern, handler)
		if t.method == http.MethodGet && !strings.HasPrefix(t.pattern, kvPrefix+"{bucket}/") {
			r.MethodFunc(http.MethodHead, t.pattern, handler)
		}
	}
	r.NotFound(func(w http.ResponseWriter, req *http.Request) { s.run(w, req, opOther, (*exchange).notFound) })
	r.MethodNotAllowed(func(w http.ResponseWriter, req *http.Request) {
		s.run(w, req, opOther, func(x *exchange) {
			if allow := s.allowed(req); allow != "" {
				x.notAllowed(allow)
			} else {
				x.notFound()
			}
		})
	})
	return r
}

// allowed lists the methods that a path takes.
func (s *Server) allowed(r *http.Request) string {
	var out []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if s.router.Match(chi.NewRouteContext(), m, rawPath(r.URL)) {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}

func (x *exchange) notFound() {
	x.fail(&quorum.Error{Code: codeNotFound, Detail: "the API has no path " + quoted(x.r.URL.Path) + "; /openapi.json lists what there is"})
}

func (x *exchange) notAllowed(allow string) {
	x.w.Header()["Allow"] = []string{allow}
	x.fail(&quorum.Error{Code: codeMethod, Detail: x.r.Method + " is not for this path; it takes " + allow})
}
