package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/rondodb/rondo/quorum"
)

// hints answers what waits here for other nodes.
func (x *exchange) hints() {
	if !x.plain() {
		return
	}
	x.hintsNow()
}

func (x *exchange) hintsNow() {
	view := x.Node.Hints()
	if view.Targets == nil {
		view.Targets = []HintView{}
	}
	x.document(view)
}

// pauseHints stops the delivery of hints, or lets it go on, and answers as hints does.
func (x *exchange) pauseHints() {
	if !x.plain() {
		return
	}
	e := x.readBody(maxSettings)
	var paused bool
	if e == nil {
		paused, e = parsePause(x.body)
	}
	if e != nil {
		x.fail(e)
		return
	}
	x.Node.PauseHints(paused)
	x.hintsNow()
}

// parsePause reads {"paused":true} or {"paused":false}: that member, once, and nothing else.
func parsePause(body []byte) (paused bool, e *quorum.Error) {
	wrong := invalid(`use {"paused":true} to stop the delivery of hints, {"paused":false} to let it go on`)
	if checkJSON(body) != jsonGood {
		return false, wrong
	}
	d := json.NewDecoder(bytes.NewReader(body))
	for _, want := range [...]any{json.Delim('{'), "paused", nil, json.Delim('}')} {
		t, err := d.Token()
		if err != nil && !errors.Is(err, io.EOF) {
			return false, wrong
		}
		if want != nil {
			if t != want {
				return false, wrong
			}
			continue
		}
		var ok bool
		if paused, ok = t.(bool); !ok {
			return false, wrong
		}
	}
	return paused, nil
}

// tombstones answers what waits to be collected here.
func (x *exchange) tombstones() {
	if !x.plain() {
		return
	}
	view := x.Node.Tombstones()
	if view.Partitions == nil {
		view.Partitions = []TombstonesPartition{}
	}
	x.document(view)
}
