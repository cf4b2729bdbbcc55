package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/rondodb/rondo/ring"
)

const (
	lengthSize    = 4
	headerSize    = 22 // op, flags, id, timeout, layout
	checksumSize  = 4
	frameOverhead = lengthSize + headerSize + checksumSize

	readBuffer = 128 << 10 // per connection; frames that fit are parsed in place
	growStep   = 1 << 20   // first piece of a frame that does not fit
)

// Flags of a frame.
const (
	flagReply      = 1 << iota // an answer
	flagError                  // the answer is a fault
	flagDigestOnly             // OpRead: the digest is enough
	flagSync                   // OpWrite: answer once it is on disk
	flagRepair                 // OpWrite: repairs what another replica has; taken where client writes are not
)

// errFrame marks bytes that are not a frame. The stream cannot be trusted after it.
var errFrame = errors.New("broken frame")

// header is what precedes every payload.
type header struct {
	op      Op
	flags   byte
	id      uint64
	timeout uint32 // microseconds
	layout  uint64
}

// frame is one received message. The payload is a part of the reader's buffer and valid until the next frame is read, except
// where owned is set: then it is the receiver's to keep.
type frame struct {
	header
	payload []byte
	owned   bool
}

// beginFrame appends a header whose length sealFrame fills in.
func beginFrame(b []byte, h header) []byte {
	b = append(b, 0, 0, 0, 0, byte(h.op), h.flags)
	b = binary.BigEndian.AppendUint64(b, h.id)
	b = binary.BigEndian.AppendUint32(b, h.timeout)
	return binary.BigEndian.AppendUint64(b, h.layout)
}

// sealFrame completes the frame that begins at start and reaches to the end of b.
func sealFrame(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-lengthSize+checksumSize))
	return binary.BigEndian.AppendUint32(b, uint32(ring.Digest(b[start:])))
}

// voidFrame turns a sealed frame that has not left yet into one that the receiver skips.
func voidFrame(raw []byte) {
	body := raw[:len(raw)-checksumSize]
	body[lengthSize], body[lengthSize+1] = byte(OpNone), 0
	binary.BigEndian.PutUint32(raw[len(body):], uint32(ring.Digest(body)))
}

// parseFrame reads a frame that is complete. The payload is a part of raw.
func parseFrame(raw []byte) (frame, error) {
	if len(raw) < frameOverhead || uint64(binary.BigEndian.Uint32(raw)) != uint64(len(raw)-lengthSize) {
		return frame{}, fmt.Errorf("%w: wrong length", errFrame)
	}
	body := raw[:len(raw)-checksumSize]
	if binary.BigEndian.Uint32(raw[len(body):]) != uint32(ring.Digest(body)) {
		return frame{}, fmt.Errorf("%w: wrong checksum", errFrame)
	}
	return frame{
		header: header{
			op: Op(raw[4]), flags: raw[5], id: binary.BigEndian.Uint64(raw[6:]),
			timeout: binary.BigEndian.Uint32(raw[14:]), layout: binary.BigEndian.Uint64(raw[18:]),
		},
		payload: body[lengthSize+headerSize:],
	}, nil
}

// frameReader cuts a stream into frames. It is not safe for concurrent use.
type frameReader struct {
	src  io.Reader
	buf  []byte
	r, w int                   // what of buf is not parsed yet
	big  func(bytes int) error // asked before memory is taken for a frame that does not fit into buf; nil = no limit
}

func newFrameReader(src io.Reader, big func(int) error) *frameReader {
	return &frameReader{src: src, buf: make([]byte, readBuffer), big: big}
}

// size is the length of the frame at r, 0 where that cannot be told yet.
func (f *frameReader) size() (int, error) {
	if f.w-f.r < lengthSize {
		return 0, nil
	}
	n := uint64(binary.BigEndian.Uint32(f.buf[f.r:])) + lengthSize
	if n < frameOverhead || n > MaxFrame {
		return 0, fmt.Errorf("%w: length %d", errFrame, n)
	}
	return int(n), nil
}

// ready tells whether next can answer without reading.
func (f *frameReader) ready() bool {
	n, err := f.size()
	return err != nil || n > 0 && f.w-f.r >= n
}

// next returns the next frame. At the end of the stream the error is io.EOF between frames, io.ErrUnexpectedEOF within one.
func (f *frameReader) next() (frame, error) {
	for {
		n, err := f.size()
		if err != nil {
			return frame{}, err
		}
		if n > len(f.buf) {
			return f.large(n)
		}
		if n > 0 && f.w-f.r >= n {
			raw := f.buf[f.r : f.r+n]
			f.r += n
			return parseFrame(raw)
		}
		copy(f.buf, f.buf[f.r:f.w])
		f.r, f.w = 0, f.w-f.r
		m, err := f.src.Read(f.buf[f.w:])
		f.w += m
		if m == 0 && err != nil {
			if err == io.EOF && f.w > 0 {
				err = io.ErrUnexpectedEOF
			}
			return frame{}, err
		}
	}
}

// large reads a frame of n bytes into memory of its own. What is taken grows with what has arrived (at most twice that), so
// that a length alone costs nothing.
func (f *frameReader) large(n int) (frame, error) {
	if f.big != nil {
		if err := f.big(n); err != nil {
			return frame{}, err
		}
	}
	raw := make([]byte, 0, min(n, growStep))
	raw = append(raw, f.buf[f.r:f.w]...)
	f.r, f.w = 0, 0
	for len(raw) < n {
		if len(raw) == cap(raw) {
			raw = append(make([]byte, 0, min(n, 2*cap(raw))), raw...)
		}
		m, err := f.src.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+m]
		if m == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return frame{}, err
		}
	}
	fr, err := parseFrame(raw)
	fr.owned = true
	return fr, err
}
