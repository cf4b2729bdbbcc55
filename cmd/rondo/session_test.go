package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// timing is what differs from run to run in the output of long commands.
var timing = regexp.MustCompile(`in [0-9.]+(µs|ms|s), [0-9,]+/s`)

// TestSessions runs the command lines of testdata/*.txt against a fake node and compares what they print. In the files, "$ rondo …" is a
// command, "## " a comment, "<<< text" gives it standard input, DIR is a folder of its own, lines with "! " are standard error, and "exit N" is an exit
// code other than 0. With RONDO_UPDATE=1 the files are rewritten.
func TestSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := newFake(t)
			f.pages = fixtures()
			dir := t.TempDir()
			var got strings.Builder
			for line := range strings.SplitSeq(string(want), "\n") {
				switch {
				case strings.HasPrefix(line, "$ rondo"):
					got.WriteString(line + "\n" + play(t, f, dir, line))
				case strings.HasPrefix(line, "## "):
					got.WriteString(line + "\n")
				}
			}
			if os.Getenv("RONDO_UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

// play runs one command line and returns what it printed.
func play(t *testing.T, f *fake, dir, line string) string {
	t.Helper()
	line, stdin, _ := strings.Cut(line, " <<< ")
	args := split(strings.ReplaceAll(strings.TrimPrefix(line, "$ rondo"), "DIR", dir))
	stdout, stderr, code := rondo(t, f, unquote(stdin), args...)
	var out strings.Builder
	out.WriteString(stdout)
	if stdout != "" && !strings.HasSuffix(stdout, "\n") {
		out.WriteString("\n")
	}
	for l := range strings.Lines(stderr) {
		out.WriteString("! " + l)
	}
	if code != 0 {
		out.WriteString("exit " + strconv.Itoa(code) + "\n")
	}
	text := strings.ReplaceAll(out.String(), f.url, "http://node")
	return timing.ReplaceAllString(strings.ReplaceAll(text, dir, "DIR"), "in T, R/s")
}

// rondo runs one command against a fake.
func rondo(t *testing.T, f *fake, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(stdin), &out, &errs, func(name string) (string, bool) {
		return map[string]string{"RONDO_NODE": f.url}[name], name == "RONDO_NODE"
	})
	return out.String(), errs.String(), code
}

// split cuts a command line at spaces outside single quotes.
func split(line string) []string {
	var args []string
	var arg strings.Builder
	quoted, any := false, false
	for _, c := range line {
		switch {
		case c == '\'':
			quoted, any = !quoted, true
		case c == ' ' && !quoted:
			if any {
				args = append(args, arg.String())
				arg.Reset()
			}
			any = false
		default:
			arg.WriteRune(c)
			any = true
		}
	}
	if any {
		args = append(args, arg.String())
	}
	return args
}

func unquote(s string) string {
	return strings.ReplaceAll(strings.Trim(s, "'"), `\n`, "\n")
}

// fixtures are the operator pages of a cluster with one node down.
func fixtures() map[string]string {
	return map[string]string{
		"/livez":  "ok\n",
		"/readyz": "ok\n",
		"/v1/cluster": `{"cluster":"shop","ring":1,"members":[
 {"name":"n1","id":"a1","http":"10.0.0.1:7070","zone":"a","weight":1,"state":"member","health":"alive","partitions":4,"version":"0.1.0"},
 {"name":"n2","id":"a2","http":"10.0.0.2:7070","zone":"b","weight":1,"state":"member","health":"dead","partitions":4,"version":"0.1.0"},
 {"name":"n3","id":"a3","http":"10.0.0.3:7070","zone":"c","weight":1,"state":"member","health":"alive","partitions":4,"version":"0.1.0"}],
 "hints_pending":0,"divergent_partitions":0}`,
		"/v1/cluster/ring": `{"ring":1,"hash":"9f8e","partitions":[{"id":0,"owners":["n1","n2","n3"]},{"id":1,"owners":["n2","n3","n1"]},{"id":2,"owners":["n3","n1","n2"]},{"id":3,"owners":["n1","n3","n2"]}]}`,
		"/v1/node": `{"name":"n1","id":"a1","ready":true,"reason":"","uptime_s":90,"keys":12,"incarnation":"00000000000000a1",
 "hints":[{"target":"n2","id":"a2","count":1234,"bytes":56789,"oldest_s":191.5,"delivered":7,"rate":0,"error":"it is not alive","divergent_partitions":2}],
 "repair":{"oldest_equal_s":12.4,"never_equal":2,"unsynced":1,"exchanges":9,"failed":1,"objects_sent":3,"objects_received":4,"bytes":900,"verified_objects":24,"damaged_objects":1,"wrong_leaves":0,"verify_age_s":null},
 "disk":{"free_bytes":104857600,"total_bytes":8589934592,"reserve_bytes":268435456,"full":true},
 "tombstones":{"waiting":3,"oldest_s":86400.5,"blocker":"n2 is not alive"},
 "merkle":[{"partition":0,"n":3,"root":"00000000000000ff","equal_s":12.4,"peers":[{"node":"n2","equal_s":12.4,"error":"it is not alive"},{"node":"n3","equal_s":3.25,"error":""}],"synced":true},
  {"partition":3,"n":3,"root":"0000000000000001","equal_s":null,"peers":[{"node":"n2","equal_s":null,"error":"it is not alive"},{"node":"n3","equal_s":0.5,"error":""}],"synced":false}]}`,
		"/v1/hints": `{"paused":false,"known":true,"targets":[{"target":"n2","id":"a2","count":1234,"bytes":56789,"oldest_s":191.5,"delivered":7,"rate":0,"error":"it is not alive","divergent_partitions":2},
 {"target":"n3","id":"a3","count":0,"bytes":0,"oldest_s":0,"delivered":2000,"rate":812.5,"error":"","divergent_partitions":0}]}`,
		"POST /v1/hints": `{"paused":true,"known":false,"targets":[]}`,
		"/v1/tombstones": `{"waiting":3,"oldest_s":86400.5,"blocker":"n2 is not alive","collected":11,"refused":1,
 "partitions":[{"partition":0,"n":3,"waiting":2,"oldest_s":86400.5,"watermark_s":3605,"blocker":"n2 is not alive"},{"partition":3,"n":1,"waiting":1,"oldest_s":5,"watermark_s":null,"blocker":""}]}`,
		"POST /v1/repair": `{"peer":"n2","partitions":0,"total":8,"different":0,"objects_sent":0,"objects_received":0,"objects_read":0,"bytes":0,"seconds":0.001,"error":"it is not alive"}
{"peer":"n3","partitions":4,"total":8,"different":1,"objects_sent":2,"objects_received":1500,"objects_read":5,"bytes":123456,"seconds":1.5}
{"partitions":4,"total":8,"different":1,"objects_sent":2,"objects_received":1500,"objects_read":5,"bytes":123456,"seconds":1.5,"done":true}
`,
		"POST /v1/repair?partition=3": `{"partitions":2,"total":2,"different":0,"objects_sent":0,"objects_received":0,"objects_read":0,"bytes":812,"seconds":0.012,"done":true,"ok":true}
`,
		"/v1/explain/carts/stood-in": `{"partition":2,"token":"8f3a","preference":["n3","n1","n2","n4"],"replicas":[
 {"node":"n3","role":"owner","found":true,"values":[{"value":1,"content_type":"application/json","modified":"2026-11-21T10:00:00Z","expires":"2226-11-22T10:00:00Z","version":"v9"}],"tombstones":0,"digest":"77aa","hint":false,"ms":0.31},
 {"node":"n1","role":"owner","found":true,"values":[{"value":1,"content_type":"application/json","modified":"2026-11-21T10:00:00Z","expires":"2001-11-22T10:00:00Z","version":"v9"}],"tombstones":0,"digest":"77aa","hint":false,"ms":0.2},
 {"node":"n4","role":"standin","found":true,"values":[{"value":1,"content_type":"application/json","modified":"2026-11-21T10:00:00Z","version":"v9"}],"tombstones":0,"digest":"77ab","hint":true,"ms":0.2},
 {"node":"n5","role":"standin","found":false,"values":[],"tombstones":0,"digest":"0000","hint":false,"ms":0.2}]}`,
		"/v1/explain/carts/alice": `{"bucket":"carts","key":"alice","partition":2,"token":"8f3a","preference":["n3","n1","n2"],"replicas":[
 {"node":"n3","role":"owner","found":true,"values":[{"value":{"items":3},"content_type":"application/json","modified":"2026-11-21T10:00:00Z","version":"v9"}],"tombstones":0,"digest":"77aa","ms":0.31},
 {"node":"n1","role":"owner","found":true,"values":[{"value":{"items":2},"content_type":"application/json","modified":"2026-11-21T09:00:00Z","version":"v8"}],"tombstones":1,"digest":"12bc","ms":0.2},
 {"node":"n2","role":"owner","found":false,"values":[],"tombstones":0,"digest":"","ms":0,"error":"unreachable: connection refused"}]}`,
		"/v1/explain/carts/nobody": `{"partition":1,"token":"01","preference":["n1","n2"],"replicas":[{"node":"n1","role":"owner","found":false,"values":null,"tombstones":0,"digest":"0","ms":0.3},{"node":"n2","role":"owner","found":false,"values":[],"tombstones":0,"digest":"0","ms":0.4}]}`,
	}
}
