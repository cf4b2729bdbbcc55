package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/rondodb/rondo/quorum"
)

// plain refuses parameters where there are none.
func (x *exchange) plain() bool {
	if e := x.params.parse(x.r.URL.RawQuery, 0); e != nil {
		x.fail(e)
		return false
	}
	return true
}

// document answers with a JSON document that is not on the path of requests for keys.
func (x *exchange) document(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		x.failed(fmt.Errorf("encode answer: %w", err))
		return
	}
	x.json(http.StatusOK)
	x.buf = append(append(x.buf[:0], b...), '\n')
	x.finish()
}

func (x *exchange) cluster() {
	if !x.plain() {
		return
	}
	view := x.Node.Cluster()
	if view.Members == nil {
		view.Members = []MemberView{}
	}
	x.document(view)
}

// node answers about this node; with its partitions only where they are asked for, for they are many.
func (x *exchange) node() {
	if e := x.params.parse(x.r.URL.RawQuery, nodeParams); e != nil {
		x.fail(e)
		return
	}
	view := x.Node.Status()
	if view.Hints == nil {
		view.Hints = []HintView{}
	}
	if x.params.merkle {
		view.Merkle = append([]PartitionView{}, x.Node.Partitions()...)
		for i := range view.Merkle {
			if view.Merkle[i].Peers == nil {
				view.Merkle[i].Peers = []PeerDebt{}
			}
		}
	}
	x.document(view)
}

// ring answers the owners of every partition, in order of preference.
func (x *exchange) ring() {
	if e := x.params.parse(x.r.URL.RawQuery, ringParams); e != nil {
		x.fail(e)
		return
	}
	layout := x.Node.Layout()
	if layout == nil {
		x.fail(x.notReady())
		return
	}
	x.json(http.StatusOK)
	x.buf = append(x.buf[:0], `{"ring":`...)
	x.buf = strconv.AppendUint(x.buf, layout.Version(), 10)
	x.buf = append(x.buf, `,"hash":"`...)
	x.buf = appendHex(x.buf, layout.Hash())
	x.buf = appendInt(x.buf, `","n":`, min(x.params.n, len(layout.Members())))
	x.buf = append(x.buf, `,"partitions":[`...)
	for p := range layout.Partitions() {
		if p > 0 {
			x.buf = append(x.buf, ',')
		}
		x.buf = appendInt(x.buf, `{"id":`, p)
		x.buf = append(x.buf, `,"owners":[`...)
		for i, id := range layout.Owners(p, x.params.n) {
			if i > 0 {
				x.buf = append(x.buf, ',')
			}
			m, _ := layout.Member(id)
			x.buf = appendString(x.buf, m.Name)
		}
		x.buf = append(x.buf, "]}"...)
		x.spill()
	}
	x.buf = append(x.buf, "]}\n"...)
	x.finish()
}

// livez tells that the process runs.
func (x *exchange) livez() {
	x.document(struct {
		Status  string `json:"status"`
		Version string `json:"version"`
	}{"alive", x.Version})
}

// readyz tells whether the node can serve.
func (x *exchange) readyz() {
	if x.draining.Load() {
		x.fail(&quorum.Error{Code: quorum.CodeNotReady, Detail: "this node is shutting down"})
		return
	}
	if ok, _ := x.Node.Ready(); !ok {
		x.fail(x.notReady())
		return
	}
	x.document(struct {
		Status string `json:"status"`
	}{"ready"})
}

// later answers for the parts of the API that this release does not have.
func (x *exchange) later() {
	x.fail(notYet("this release does not have " + x.r.Method + " " + x.r.URL.Path))
}

func (x *exchange) root() {
	x.text(http.StatusOK, `Rondo, a key-value database without a leader.
Write:  curl -X PUT http://`+x.host()+`/v1/kv/carts/alice -d '{"items":3}'
Read:   curl http://`+x.host()+`/v1/kv/carts/alice
Look:   /v1/cluster  /v1/cluster/ring  /v1/node  /v1/explain/carts/alice  /metrics  /readyz
All of the API, for machines: /openapi.json
`)
}

// host is where the client reached this node, if it is fit to be shown.
func (x *exchange) host() string {
	if h := x.r.Host; h != "" && len(h) < 256 && printable(h) {
		return h
	}
	return "127.0.0.1:7070"
}
