package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rondodb/rondo/internal/client"
)

// table lays rows out in columns.
func table(header []string, rows [][]string) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		panic("flush table: " + err.Error()) // not reached: a strings.Builder takes everything
	}
	return out.String()
}

// shown is a key or name as a terminal may show it: quoted where it holds what is not printable.
func shown(s string) string {
	if s == "" {
		return `""`
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && s == strings.TrimSpace(s) {
		return s
	}
	return strconv.Quote(s)
}

// previewRunes is how much of a value a table shows.
const previewRunes = 60

// preview is the beginning of a value in one printable line.
func preview(v client.Value) string {
	if !utf8.Valid(v.Data) {
		return fmt.Sprintf("<%d bytes>", len(v.Data))
	}
	cut := v.Data
	for n, i := 0, 0; i < len(cut); n++ {
		if n == previewRunes {
			cut = cut[:i]
			break
		}
		_, size := utf8.DecodeRune(cut[i:])
		i += size
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, string(cut))
	if len(cut) < len(v.Data) {
		text += "…"
	}
	return text
}

// bytesText is a size for people: 812 B, 3.4 KiB.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// countText is a number with thousands separated.
func countText[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// durationText is a time with three significant digits: 812µs, 1.24ms, 3.2s.
func durationText(d time.Duration) string {
	digits := func(v float64) string {
		switch {
		case v >= 100:
			return strconv.FormatFloat(v, 'f', 0, 64)
		case v >= 10:
			return strconv.FormatFloat(v, 'f', 1, 64)
		}
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	switch {
	case d >= 100*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return digits(d.Seconds()) + "s"
	case d >= time.Millisecond:
		return digits(float64(d)/float64(time.Millisecond)) + "ms"
	}
	return digits(float64(d)/float64(time.Microsecond)) + "µs"
}

// clockText is a time left: 0:45, 12:03, 1:02:03.
func clockText(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// plural is "1 node", "2 nodes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return countText(n) + " " + noun + "s"
}

// andList is "a", "a and b", "a, b and c".
func andList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
