package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// How often progress is shown.
const (
	redrawEvery = 250 * time.Millisecond // on a terminal, over the last line
	lineEvery   = 5 * time.Second        // elsewhere, as a new line
)

// progress shows one changing line about a long command.
type progress struct {
	w        io.Writer
	terminal bool
	text     func() string
	stop     chan struct{}
	group    sync.WaitGroup
}

// startProgress shows text() on w from now on until finish. text is called from another goroutine.
func startProgress(w io.Writer, text func() string) *progress {
	p := &progress{w: w, terminal: interactive(w), text: text, stop: make(chan struct{})}
	every := lineEvery
	if p.terminal {
		every = redrawEvery
	}
	p.group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.show()
			}
		}
	})
	return p
}

func (p *progress) show() {
	form := "%s\n"
	if p.terminal {
		form = "\r%s\x1b[K"
	}
	_, _ = fmt.Fprintf(p.w, form, p.text()) // progress that cannot be shown does not matter
}

// finish ends it and clears the line; its goroutine is gone when it returns. Not to be called twice.
func (p *progress) finish() {
	close(p.stop)
	p.group.Wait()
	if p.terminal {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// pace is how fast something goes.
func pace(count int64, since time.Time) float64 {
	if past := time.Since(since).Seconds(); past > 0.001 {
		return float64(count) / past
	}
	return 0
}

// leftText is the time that is left at the present pace, "" where it cannot be told.
func leftText(done, total int64, since time.Time) string {
	rate := pace(done, since)
	if total <= 0 || rate <= 0 || time.Since(since) < time.Second {
		return ""
	}
	return clockText(time.Duration(float64(max(total-done, 0))/rate*float64(time.Second))) + " left"
}
