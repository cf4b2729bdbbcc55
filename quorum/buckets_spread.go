package quorum

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rondodb/rondo/ring"
)

// Messages about bucket settings: one byte, then what it needs. Answers are named beside them.
const (
	settingsPush = 1 // a registry; nothing
	settingsPull = 2 // nothing; a registry
	settingsKeys = 3 // a bucket's name; one byte, 1 where this node holds any of its keys
)

// Set changes a bucket's settings. It returns nil once a majority of the ring's members keep the change on disk; the live
// nodes have it within PushTimeout, the others when they return. n can be changed only while no node holds a key of the
// bucket, and with all members there. Errors are of type *Error with an outcome.
func (b *Buckets) Set(ctx context.Context, name string, settings Bucket) error {
	if err := settings.check(); err != nil {
		return &Error{Code: CodeInvalid, Detail: err.Error(), Outcome: NotApplied}
	}
	return b.change(ctx, name, bucketEntry{settings: settings})
}

// Delete gives a bucket the default settings again, by the same rules as Set. Its keys are not touched.
func (b *Buckets) Delete(ctx context.Context, name string) error {
	return b.change(ctx, name, bucketEntry{deleted: true, settings: DefaultBucket})
}

func (b *Buckets) change(ctx context.Context, name string, e bucketEntry) error {
	if name == "" || len(name) > bucketName {
		return &Error{Code: CodeInvalid, Detail: fmt.Sprintf("a bucket's name has 1 to %d bytes", bucketName), Outcome: NotApplied}
	}
	layout := b.config.Membership.Layout()
	if layout == nil {
		return notReady(b.config.Membership)
	}
	members := len(layout.Members())
	before := b.state.Load().entries[name]
	resize := b.Get(name).N != e.settings.N
	need := members/2 + 1
	if resize {
		need = members
	}
	if alive := len(b.alive(layout)); alive < need {
		detail := fmt.Sprintf("a change of settings needs %d of the ring's %d members, and only %d are alive: nothing was changed", need, members, alive)
		if resize {
			detail = fmt.Sprintf("a change of n needs all of the ring's %d members, and only %d are alive: nothing was changed", members, alive)
		}
		return &Error{Code: CodeUnavailable, Detail: detail, Outcome: NotApplied, N: members, Required: need, Acked: alive}
	}
	if resize {
		if err := b.refuseWithKeys(ctx, layout, name); err != nil {
			return err
		}
	}
	if err := b.write(name, e, before.time); err != nil {
		return err
	}
	acked, err := b.push(ctx, layout)
	if acked < need {
		return &Error{
			Code: CodeTimeout, Outcome: Unknown, N: members, Required: need, Acked: acked, Err: err,
			Detail: fmt.Sprintf("%d of the %d members needed have kept the change; the others will get it when they can be reached", acked, need),
		}
	}
	if resize { // a key may have been written while the settings went round
		if err := b.refuseWithKeys(ctx, layout, name); err != nil {
			return b.takeBack(ctx, layout, name, before, err)
		}
	}
	return nil
}

// write puts an entry into the local registry, newer than what is there.
func (b *Buckets) write(name string, e bucketEntry, after uint64) error {
	e.time, e.node = max(uint64(b.config.Now().UnixNano()), after+1), b.config.Membership.Self()
	if _, err := b.adopt(map[string]bucketEntry{name: e}); err != nil {
		return &Error{Code: CodeInternal, Detail: "this node could not keep the change", Outcome: Unknown, Err: err}
	}
	return nil
}

// takeBack restores the settings from before a change of n that met a key.
func (b *Buckets) takeBack(ctx context.Context, layout *ring.Layout, name string, before bucketEntry, cause error) error {
	if before.time == 0 {
		before = bucketEntry{deleted: true, settings: DefaultBucket}
	}
	if err := b.write(name, before, b.state.Load().entries[name].time); err != nil {
		return err
	}
	if acked, err := b.push(ctx, layout); acked < len(layout.Members()) {
		return &Error{
			Code: CodeTimeout, Outcome: Unknown, N: len(layout.Members()), Required: len(layout.Members()), Acked: acked, Err: errors.Join(cause, err),
			Detail: "the bucket got a key meanwhile, and taking the change of n back did not reach every member yet",
		}
	}
	return cause
}

// refuseWithKeys fails where any member holds a key of the bucket, or cannot say.
func (b *Buckets) refuseWithKeys(ctx context.Context, layout *ring.Layout, name string) error {
	held, asked, err := b.each(ctx, b.alive(layout), func(ctx context.Context, id ring.NodeID) (bool, error) {
		if id == b.config.Membership.Self() {
			return b.holdsKeys(name)
		}
		answer, err := b.config.Peers.Settings(ctx, id, append([]byte{settingsKeys}, name...))
		if err == nil && len(answer) != 1 {
			err = errWire
		}
		return err == nil && answer[0] == 1, err
	})
	switch members := len(layout.Members()); {
	case held > 0:
		return &Error{Code: CodeConflict, Detail: "n is fixed once the bucket holds a key, or traces of deleted ones: use another bucket", Outcome: NotApplied}
	case asked < members:
		return &Error{
			Code: CodeUnavailable, Outcome: NotApplied, N: members, Required: members, Acked: asked, Err: err,
			Detail: "not every member of the ring could say whether it holds keys of the bucket: n was not changed",
		}
	}
	return nil
}

// alive is the members that can be asked now, this node included where it is one.
func (b *Buckets) alive(layout *ring.Layout) []ring.NodeID {
	var out []ring.NodeID
	for _, m := range layout.Members() {
		if m.ID == b.config.Membership.Self() || b.config.Membership.Alive(m.ID) {
			out = append(out, m.ID)
		}
	}
	return out
}

// push sends the registry to all live members at once, and counts those that keep it on disk, this node included.
func (b *Buckets) push(ctx context.Context, layout *ring.Layout) (acked int, err error) {
	message := append([]byte{settingsPush}, b.Encode()...)
	_, acked, err = b.each(ctx, b.alive(layout), func(ctx context.Context, id ring.NodeID) (bool, error) {
		if id == b.config.Membership.Self() {
			return true, nil // adopt has kept it
		}
		_, err := b.config.Peers.Settings(ctx, id, message)
		return err == nil, err
	})
	return acked, err
}

// each calls ask for all nodes at once, for PushTimeout at most. It counts the answers that are true, and all answers.
func (b *Buckets) each(ctx context.Context, nodes []ring.NodeID, ask func(context.Context, ring.NodeID) (bool, error)) (yes, answered int, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.PushTimeout)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, id := range nodes {
		group.Go(func() {
			ok, failed := ask(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", id, failed))
				return
			}
			answered++
			if ok {
				yes++
			}
		})
	}
	group.Wait()
	return yes, answered, err
}

// Reconcile fetches another node's settings and joins them into this registry: for when its hash differs.
func (b *Buckets) Reconcile(ctx context.Context, from ring.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.PushTimeout)
	defer cancel()
	answer, err := b.config.Peers.Settings(ctx, from, []byte{settingsPull})
	if err != nil {
		return fmt.Errorf("fetch bucket settings: %w", err)
	}
	_, err = b.MergeRemote(answer)
	return err
}

// HandleSettings answers another node's message about settings.
func (b *Buckets) HandleSettings(_ context.Context, _ ring.NodeID, payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, refuse("bucket settings: %v", errWire)
	}
	switch kind, rest := payload[0], payload[1:]; kind {
	case settingsPush:
		_, err := b.MergeRemote(rest)
		return nil, err
	case settingsPull:
		return b.Encode(), nil
	case settingsKeys:
		held, err := b.holdsKeys(string(rest))
		switch {
		case err != nil:
			return nil, err
		case held:
			return []byte{1}, nil
		}
		return []byte{0}, nil
	default:
		return nil, refuse("bucket settings: message kind %d is unknown to this version", kind)
	}
}
