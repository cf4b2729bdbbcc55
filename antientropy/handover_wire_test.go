package antientropy

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/rondodb/rondo/ring"
)

func TestHandoverWire(t *testing.T) {
	items := []handed{{ring.NewKey("b", "k"), []byte("object")}, {ring.NewKey("", ""), []byte{}}}
	if got, err := decodeHints(encodeHints(items)[1:]); err != nil || !reflect.DeepEqual(got, items) {
		t.Errorf("hints: %v, %v", got, err)
	}
	receipts := []receipt{{fate: handedOver}, {fate: handedPurged}, {handedNotOwner, "no"}, {handedFailed, "disk"}}
	if got, err := decodeReceipts(encodeReceipts(receipts), 4); err != nil || !reflect.DeepEqual(got, receipts) {
		t.Errorf("receipts: %v, %v", got, err)
	}
	some := []ring.Class{{Partition: 0, N: 1}, {Partition: 0, N: 3}, {Partition: 65535, N: 7}}
	for _, m := range []order{
		{kind: kindFence, at: 1 << 62, classes: some, released: []uint64{0, 1, 1 << 61}},
		{kind: kindCommit, at: 5, session: 1 << 63, classes: some},
		{kind: kindRelease, at: 5, classes: some},
		{kind: kindRelease, classes: []ring.Class{}},
	} {
		if got, err := decodeOrder(m.kind, m.encode()[1:]); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("order %+v: %+v, %v", m, got, err)
		}
	}
	a := assent{session: 7, classes: []answer{{marks: Marks{3, 2, 1}}, {refusal: "no"}}}
	if got, err := decodeAssent(a.encode(), 2); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("assent: %+v, %v", got, err)
	}
}

// Whatever comes in is read or refused, and what is read is written the same way.
func FuzzHandoverWire(f *testing.F) {
	f.Add(byte(kindHints), encodeHints([]handed{{ring.NewKey("b", "k"), []byte("object")}}), 1)
	for _, kind := range []byte{kindFence, kindCommit, kindRelease} {
		m := order{kind: kind, at: 9, classes: []ring.Class{{Partition: 1, N: 3}, {Partition: 2, N: 3}}, released: []uint64{1, 2}}
		f.Add(kind, m.encode(), 2)
	}
	f.Add(byte(0), append([]byte{0}, encodeReceipts([]receipt{{fate: handedOver}, {handedFailed, "disk"}})...), 2)
	f.Add(byte(1), append([]byte{0}, assent{session: 7, classes: []answer{{marks: Marks{3, 2, 1}}}}.encode()...), 1)
	f.Fuzz(func(t *testing.T, kind byte, b []byte, n int) {
		if len(b) == 0 {
			return
		}
		payload, n := b[1:], min(max(n, 0), len(b))
		var again []byte
		switch kind {
		case kindHints:
			items, err := decodeHints(payload)
			if err != nil {
				return
			}
			again = encodeHints(items)[1:]
		case kindFence, kindCommit, kindRelease:
			m, err := decodeOrder(kind, payload)
			if err != nil {
				return
			}
			again = m.encode()[1:]
		case 0:
			receipts, err := decodeReceipts(payload, n)
			if err != nil {
				return
			}
			for _, r := range receipts {
				if len(r.why) > maxText {
					return
				}
			}
			again = encodeReceipts(receipts)
		default:
			a, err := decodeAssent(payload, n)
			if err != nil {
				return
			}
			for _, c := range a.classes {
				if len(c.refusal) > maxText {
					return
				}
			}
			again = a.encode()
		}
		if !bytes.Equal(again, payload) {
			t.Errorf("read and written again: %x, want %x", again, payload)
		}
	})
}
