package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
	"github.com/rondodb/rondo/node"
	"go.uber.org/goleak"
)

// TestVerifyMeanings: each rule of package check is explained, and has its place among the gravest.
func TestVerifyMeanings(t *testing.T) {
	source, err := os.ReadFile("../../internal/check/check.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\bRule\s+= "([a-z ]+)"`).FindAllSubmatch(source, -1)
	if len(found) < 12 {
		t.Fatalf("got %d rules, want all", len(found))
	}
	for _, m := range found {
		rule := check.Rule(m[1])
		if meanings[rule] == "" || !slices.Contains(gravest, rule) {
			t.Errorf("%q is not explained, or not in gravest", rule)
		}
	}
	if len(gravest) != len(found) || len(meanings) != len(found) {
		t.Errorf("got %d in gravest and %d meanings, want %d", len(gravest), len(meanings), len(found))
	}
}

func TestVerifyJSON(t *testing.T) {
	f := newFake(t)
	for file, want := range map[string]struct {
		verdict    string
		code       int
		violations bool
	}{"good": {"pass", exitOK, false}, "bad": {"fail", exitFailure, true}, "short": {"inconclusive", exitUnavailable, false}} {
		stdout, stderr, code := rondo(t, f, "", "verify", "--check", "testdata/verify/"+file+".jsonl", "-o", "json")
		var doc struct {
			Verdict    string
			Violations []struct {
				Rule, Key, Detail, Meaning string
				Ops                        []check.Op
			}
			Summary struct {
				All struct{ OK int }
			}
		}
		if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
			t.Fatalf("%s: %v:\n%s", file, err, stdout)
		}
		if doc.Verdict != want.verdict || code != want.code || stderr != "" || (len(doc.Violations) > 0) != want.violations || doc.Summary.All.OK == 0 {
			t.Errorf("%s: got %q, exit %d, %d violations, %q", file, doc.Verdict, code, len(doc.Violations), stderr)
		}
		for _, v := range doc.Violations {
			if v.Rule == "" || v.Key == "" || v.Detail == "" || v.Meaning == "" || len(v.Ops) == 0 {
				t.Errorf("%s: got %+v", file, v)
			}
		}
	}
}

// cluster runs three nodes in this process until the test ends, and returns the URL of the first.
func cluster(t *testing.T) string {
	t.Helper()
	var nodes []*node.Node
	var seed []string
	for _, name := range []string{"n1", "n2", "n3"} {
		n, err := node.New(node.Config{
			Data: filepath.Join(t.TempDir(), name), Name: name, Cluster: "verify", HTTP: "127.0.0.1:0", Peer: "127.0.0.1:0", Gossip: "127.0.0.1:0",
			Join: seed, Expect: 3, Cache: 1 << 20,
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Open(); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
		seed = append(seed, n.GossipAddr())
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := closeAll(ctx, nodes); err != nil {
			t.Error(err)
		}
		// goleveldb's last goroutine takes a second after Close.
		err := goleak.Find()
		for ctx.Err() == nil && err != nil {
			err = goleak.Find()
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := waitReady(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	return "http://" + nodes[0].HTTPAddr()
}

// TestVerifyCluster verifies real nodes, found through one of them, and judges the history that it kept once more.
func TestVerifyCluster(t *testing.T) {
	f := &fake{url: cluster(t)}
	history := filepath.Join(t.TempDir(), "run.jsonl")
	stdout, stderr, code := rondo(t, f, "", "verify", "--duration", "2s", "--keys", "3", "--clients", "6", "--timeout", "1s", "--history", history)
	if code != exitOK || !strings.HasPrefix(stdout, "PASS: no promise was broken in ") || !strings.Contains(stdout, "Convergence  all replicas held the same") ||
		!strings.Contains(stderr, "verify: n1, n2 and n3 for 2.00s with 6 clients; found through "+f.url) {
		t.Errorf("got exit %d:\n%s%s", code, stdout, stderr)
	}
	again, stderr, code := rondo(t, f, "", "verify", "--check", history)
	if line, _, _ := strings.Cut(stdout, "\n"); code != exitOK || !strings.HasPrefix(again, line+"\n") {
		t.Errorf("got exit %d:\n%s%s\nwant as before:\n%s", code, again, stderr, stdout)
	}
}

func TestVerifyBucketThatDrops(t *testing.T) {
	f := newFake(t)
	f.pages = map[string]string{"/v1/node": `{"name":"n1"}`, "/v1/cluster": `{"ring":1,"members":[{"name":"n1","http":"10.0.0.1:7070"}]}`}
	if _, stderr, code := rondo(t, f, "", "buckets", "set", "logs", "--resolve", "lww"); code != exitOK {
		t.Fatalf("got exit %d: %s", code, stderr)
	}
	if _, stderr, code := rondo(t, f, "", "verify", "--bucket", "logs", "--duration", "1s"); code != exitFailure || !strings.Contains(stderr, "keeps the last writer only") {
		t.Errorf("got exit %d: %s", code, stderr)
	}
}

func TestVerifyHelp(t *testing.T) {
	stdout, _, code := rondo(t, newFake(t), "", "verify", "--help")
	if code != exitOK || !strings.Contains(stdout, "Examples:\n  rondo dev --chaos") || !strings.Contains(stdout, "Exit codes: 0 ") {
		t.Errorf("got exit %d:\n%s", code, stdout)
	}
}

// TestVerifyFindsNodes: members that are down are taken where the others can be reached under the addresses that they give.
func TestVerifyFindsNodes(t *testing.T) {
	for _, test := range []struct {
		name, cluster, want, why string
	}{
		{"one is down", `{"members":[{"name":"n1","http":"SELF"},{"name":"n2","http":"127.0.0.1:1"}]}`, "n1 n2", "found through"},
		{"addresses of another network", `{"members":[{"name":"n1","http":"127.0.0.1:1"},{"name":"n2","http":"127.0.0.1:1"}]}`, "n1", "n2 cannot be reached from here"},
		{"another node is there", `{"members":[{"name":"n1","http":"SELF"},{"name":"n2","http":"SELF"}]}`, "n1", "n2 cannot be reached from here"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.pages = map[string]string{
				"/v1/node":    `{"name":"n1"}`,
				"/v1/cluster": strings.ReplaceAll(test.cluster, "SELF", strings.TrimPrefix(f.url, "http://")),
			}
			got, err := (&session{nodes: []string{f.url}}).findNodes(t.Context())
			if names := strings.Join(got.names, " "); err != nil || names != test.want || len(got.urls) != len(got.names) || !strings.Contains(got.why, test.why) {
				t.Errorf("got %+v %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestVerifyUnreachable(t *testing.T) {
	_, stderr, code := rondo(t, &fake{url: "http://127.0.0.1:1"}, "", "verify")
	if code != exitUnavailable || !strings.Contains(stderr, "next:  is a node running there?") {
		t.Errorf("got exit %d: %s", code, stderr)
	}
}

// TestVerifyView draws three seconds on a terminal: one block, and what happened above it.
func TestVerifyView(t *testing.T) {
	var out bytes.Buffer
	v := newVerifyView(&out, 2*time.Minute)
	v.terminal, v.width = true, 60
	p := verify.Progress{
		Phase: verify.PhaseLoad, Elapsed: 63 * time.Second, Over: time.Second, OK: 1000, P99: 4 * time.Millisecond,
		Nodes: []verify.NodeState{
			{Name: "n1", Known: true, Ready: true, Answers: true},
			{Name: "n2", Known: true, For: 3200 * time.Millisecond},
			{Name: "n3", Known: true, Answers: true, For: time.Second},
		},
	}
	v.show(p)
	p.OK, p.Failed, p.P99, p.Events = 500, 500, 32*time.Millisecond, []verify.Event{{At: 64 * time.Second, Text: "n2 stopped answering"}}
	v.show(p)
	p.OK, p.Failed, p.P99, p.Events = 0, 0, 0, nil
	v.show(p)
	v.finish()
	frames := strings.Split(out.String(), "\x1b[6A\r\x1b[J")
	if len(frames) != 4 || frames[3] != "" {
		t.Fatalf("got %d frames: %q", len(frames), frames)
	}
	want := ` 1:04  n2 stopped answering

 1:03  of 2:00   n1 ●  n2 ○ no answer, 3.2 s  n3 ◐ not rea…
       answered     50.0 %  █▅
       ops/s           500  █▅
       p99          32.0ms  ▂█

`
	if frames[1] != want {
		t.Errorf("got:\n%s\nwant:\n%s", frames[1], want)
	}
	if !strings.Contains(frames[2], "answered          -  █▅ \n") {
		t.Errorf("got:\n%s", frames[2])
	}
}

// TestVerifyLines: without a terminal, a line about once in five seconds.
func TestVerifyLines(t *testing.T) {
	var out bytes.Buffer
	v := newVerifyView(&out, time.Minute)
	p := verify.Progress{Phase: verify.PhaseLoad, Elapsed: 5 * time.Second, Over: time.Second, OK: 99, Unknown: 1, P99: time.Millisecond}
	v.show(p)
	v.last = v.last.Add(-lineEvery)
	p.Events = []verify.Event{{At: time.Second, Text: "n1 is back after 0.4 s"}}
	v.show(p)
	v.finish()
	if got, want := out.String(), " 0:01  n1 is back after 0.4 s\n 0:05  99/s, 99.0 % answered, p99 1.00ms   \n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
