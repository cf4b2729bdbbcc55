package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// record is one package of the index: its key and the JSON document that is stored.
type record struct {
	key  string
	json []byte
}

// debianRecords turns Debian's package index into JSON documents, with the Unicode that people really write.
func debianRecords(t *testing.T) []record {
	t.Helper()
	if _, err := exec.LookPath("apt-cache"); err != nil {
		t.Skip("SKIPPED: needs apt-cache (a Debian machine) for its real records")
	}
	cmd := exec.Command("apt-cache", "dumpavail")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("apt-cache dumpavail: %v", err)
	}
	var records []record
	seen := map[string]bool{}
	for _, stanza := range strings.Split(string(out), "\n\n") {
		fields := map[string]string{}
		name := ""
		for _, line := range strings.Split(stanza, "\n") {
			switch {
			case line == "":
			case line[0] == ' ' || line[0] == '\t':
				fields[name] += "\n" + line[1:]
			default:
				var value string
				name, value, _ = strings.Cut(line, ":")
				fields[name] = strings.TrimSpace(value)
			}
		}
		if fields["Package"] == "" {
			continue
		}
		id := fields["Package"] + "/" + fields["Version"] + "/" + fields["Architecture"]
		if seen[id] {
			continue // the same package in two archives
		}
		seen[id] = true
		fields["Id"] = id
		b, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record{id, b})
	}
	return records
}

// TestDebianPackages imports every record of Debian's package index through one of three processes while another is killed
// and restarted half way; then each record must read back byte for byte through each node, be listed exactly once, and be
// exported as it was imported.
func TestDebianPackages(t *testing.T) {
	long(t)
	records := debianRecords(t)
	if len(records) < 1000 {
		t.Skipf("SKIPPED: the package index has only %d records; run apt-get update", len(records))
	}
	nodes := startCluster(t, 3)
	size := 0
	for _, r := range records {
		size += len(r.json)
	}
	t.Logf("%d records, %.1f MiB of JSON", len(records), float64(size)/(1<<20))

	began := time.Now()
	importThrough(t, nodes[0], records, func(i int) {
		switch i {
		case len(records) / 2:
			nodes[2].kill()
		case len(records) * 3 / 4:
			nodes[2].start()
		}
	})
	took := time.Since(began)
	t.Logf("imported in %v: %.0f records/s, one node of three killed at half, restarted at three quarters", took.Round(time.Millisecond), float64(len(records))/took.Seconds())
	nodes[2].waitReady(30 * time.Second)

	for _, n := range nodes {
		began := time.Now()
		readBack(t, n, records)
		took := time.Since(began)
		t.Logf("read all through %s at r=quorum in %v: %.0f/s", n.Name, took.Round(time.Millisecond), float64(len(records))/took.Seconds())
	}

	began = time.Now()
	listOnce(t, nodes[1], records)
	t.Logf("listed every key exactly once in %v", time.Since(began).Round(time.Millisecond))

	file := filepath.Join(t.TempDir(), "export.ndjson")
	began = time.Now()
	if out, err := exec.Command(binary, "export", "--node", nodes[2].url, "--values-only", "packages", file).CombinedOutput(); err != nil {
		t.Fatalf("export: %v\n%s", err, out)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	exported := bytes.Split(bytes.TrimSuffix(got, []byte("\n")), []byte("\n"))
	imported := make([][]byte, len(records))
	for i, r := range records {
		imported[i] = r.json
	}
	slices.SortFunc(exported, bytes.Compare)
	slices.SortFunc(imported, bytes.Compare)
	if !slices.EqualFunc(exported, imported, bytes.Equal) {
		t.Fatalf("export has %d lines that differ from the %d imported", len(exported), len(imported))
	}
	t.Logf("exported the same %d lines in %v", len(exported), time.Since(began).Round(time.Millisecond))
}

// importThrough pipes the records into rondo import and calls at before each one is handed over.
func importThrough(t *testing.T, p *process, records []record, at func(i int)) {
	t.Helper()
	cmd := exec.Command(binary, "import", "--node", p.url, "--key-field", "Id", "packages", "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(in, 1<<16)
	for i, r := range records {
		at(i)
		w.Write(r.json)
		if err := w.WriteByte('\n'); err != nil {
			t.Fatalf("import stopped reading: %v\n%s", err, output.String())
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("import: %v\n%s", err, output.String())
	}
	t.Logf("%s", lastLines(output.String(), 1))
}

// readBack gets each record raw through one node and compares the bytes.
func readBack(t *testing.T, p *process, records []record) {
	t.Helper()
	var next, bad atomic.Int64
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(records) || bad.Load() > 10 {
					return
				}
				status, body, err := request(context.Background(), "GET", p.url+"/v1/kv/packages/"+url.PathEscape(records[i].key)+"?raw=true&r=quorum", nil, nil)
				if err != nil || status != 200 || !bytes.Equal(body, records[i].json) {
					bad.Add(1)
					t.Errorf("%s through %s: %d %v, %d bytes, want %d", records[i].key, p.Name, status, err, len(body), len(records[i].json))
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// listOnce walks the pages of the bucket and wants each key exactly once.
func listOnce(t *testing.T, p *process, records []record) {
	t.Helper()
	seen := make(map[string]int, len(records))
	cursor := ""
	for {
		status, body, err := request(context.Background(), "GET", p.url+"/v1/kv/packages?limit=1000&cursor="+url.QueryEscape(cursor), nil, nil)
		if err != nil || status != 200 {
			t.Fatalf("list: %d %v %s", status, err, body)
		}
		var page struct {
			Keys   []string
			Cursor string
		}
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatalf("list: %v in %s", err, body)
		}
		for _, k := range page.Keys {
			seen[k]++
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	for _, r := range records {
		if seen[r.key] != 1 {
			t.Fatalf("%s is listed %d times", r.key, seen[r.key])
		}
	}
	if len(seen) != len(records) {
		t.Fatalf("listed %d keys, stored %d", len(seen), len(records))
	}
}

// put writes a value with a context ("" for none) and returns the answer's status and context.
func put(ctx context.Context, base, bucket, key, value, token string) (int, string, error) {
	header := map[string]string{"Content-Type": "text/plain; charset=utf-8"}
	if token != "" {
		header["Rondo-Context"] = token
	}
	status, body, err := request(ctx, "PUT", base+"/v1/kv/"+bucket+"/"+url.PathEscape(key), io.NopCloser(strings.NewReader(value)), header)
	if err != nil {
		return 0, "", err
	}
	var answer struct{ Context, Outcome, Detail string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return status, "", fmt.Errorf("put answered %d %q: %w", status, body, err)
	}
	if status != 200 {
		return status, answer.Outcome, nil
	}
	return status, answer.Context, nil
}
