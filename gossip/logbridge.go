package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// newLogBridge passes memberlist's log lines on. Their level stands in brackets at the front. What is normal in a cluster
// whose nodes come and go is logged at debug: this package tells of it in its own words. A warning that repeats is told once
// a minute. otherCluster is called for each message that was dropped because it has another cluster's label.
func newLogBridge(to *slog.Logger, otherCluster func()) *log.Logger {
	return log.New(&logBridge{to: to, otherCluster: otherCluster, told: map[string]time.Time{}}, "", 0)
}

type logBridge struct {
	to           *slog.Logger
	otherCluster func()

	mu   sync.Mutex
	told map[string]time.Time // when each kind of warning was last told
}

const (
	tellAgain = time.Minute
	kindBytes = 40 // the beginning of a line tells its kind
	maxKinds  = 64
)

// ordinary warnings and errors of memberlist, by a part of their text.
var ordinary = []string{
	"Push/Pull with", "Failed fallback TCP ping", "Failed to send", "Failed to forward ack", "Conflicting address",
	"ignoring alive message", "Refuting", "Got ping for unexpected node", "failed to receive", "Failed to receive",
	"Failed to read remote state", "Failed push/pull merge", "Failed to push local state", "Binding to public address",
}

// Write takes one line. It is called by many goroutines, some of which hold memberlist's locks; it never blocks on them.
func (b *logBridge) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelWarn
	if word, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(word, "[") {
		text = rest
		switch word {
		case "[DEBUG", "[INFO":
			level = slog.LevelDebug
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	if strings.Contains(text, "unacceptable label") {
		b.otherCluster()
	}
	if level > slog.LevelDebug && (isOrdinary(text) || b.toldOf(text)) {
		level = slog.LevelDebug
	}
	b.to.Log(context.Background(), level, "memberlist: "+text)
	return len(line), nil
}

func isOrdinary(text string) bool {
	for _, part := range ordinary {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// toldOf tells whether this kind of line was told within the last minute.
func (b *logBridge) toldOf(text string) bool {
	kind := text[:min(len(text), kindBytes)]
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.told[kind]; ok && time.Since(last) < tellAgain {
		return true
	}
	if len(b.told) >= maxKinds {
		clear(b.told)
	}
	b.told[kind] = time.Now()
	return false
}
