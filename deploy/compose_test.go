package deploy_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"
)

// put writes through a container's API; want is the number of replicas that must have it on disk.
func (p *project) put(t *testing.T, container, key, value string) {
	t.Helper()
	status, body, err := request(http.MethodPut, p.url(t, container)+"/v1/kv/carts/"+key+"?timeout=10s", value)
	var answer struct {
		Receipt struct{ N, Acked, Durable int }
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &answer)
	}
	if r := answer.Receipt; err != nil || status != http.StatusOK || r.N != 3 || r.Acked < 2 || r.Durable < 2 {
		t.Fatalf("put %s: got %d %s %v, want 200 with 2 of 3 replicas synced", key, status, body, err)
	}
}

// get reads through a container's API, from a quorum.
func (p *project) get(t *testing.T, container, key, want string) {
	t.Helper()
	status, body, err := request(http.MethodGet, p.url(t, container)+"/v1/kv/carts/"+key+"?raw=true&timeout=10s", "")
	if err != nil || status != http.StatusOK || body != want {
		t.Fatalf("get %s: got %d %q %v, want 200 %q", key, status, body, err, want)
	}
}

func TestCompose(t *testing.T) {
	e := newEngine(t)
	p := e.up(t, "compose.yaml", e.buildImage(t))
	var n [4]string
	for i, service := range []string{"n1", "n2", "n3"} {
		n[i+1] = p.container(t, service, 1)
	}
	all := n[1:]

	// They form one cluster by themselves, and any node answers for any other.
	for _, c := range all {
		p.waitReady(t, c)
	}
	p.put(t, n[1], "alice", `{"items":["tea"]}`)
	p.get(t, n[3], "alice", `{"items":["tea"]}`)

	// As little privilege as Compose can take away.
	got := p.run(t, "docker", "inspect", "-f", "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}", n[1])
	if want := "65532:65532 true [ALL] [no-new-privileges:true]"; got != want {
		t.Errorf("privileges: got %s, want %s", got, want)
	}
	waitHealthy(t, p, n[2])

	// One node dies. The others read what was written through it, and go on writing.
	p.run(t, "docker", "kill", n[1])
	p.get(t, n[2], "alice", `{"items":["tea"]}`)
	p.put(t, n[2], "bob", `["milk"]`)
	p.get(t, n[3], "bob", `["milk"]`)

	// It comes back with its volume, and serves both.
	p.run(t, "docker", "start", n[1])
	p.waitReady(t, n[1])
	p.get(t, n[1], "alice", `{"items":["tea"]}`)
	p.get(t, n[1], "bob", `["milk"]`)

	// A stop drains: every node exits by itself, cleanly and in time.
	began := time.Now()
	p.run(t, p.command("stop")...)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("stopping took %v", took)
	}
	for _, c := range all {
		if got, want := p.run(t, "docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", c), "exited 0"; got != want {
			t.Errorf("container %s after the stop: got %s, want %s", c, got, want)
		}
	}

	// And the whole cluster starts again, with everything in it.
	p.run(t, p.command("start")...)
	for _, c := range all {
		p.waitReady(t, c)
	}
	for _, c := range all {
		p.get(t, c, "alice", `{"items":["tea"]}`)
		p.get(t, c, "bob", `["milk"]`)
	}
}

func TestComposeScale(t *testing.T) {
	e := newEngine(t)
	p := e.up(t, "compose.scale.yaml", e.buildImage(t), "--scale", "rondo=3")
	var n [4]string
	for i := 1; i <= 3; i++ {
		n[i] = p.container(t, "rondo", i)
		p.waitReady(t, n[i])
	}
	p.put(t, n[1], "alice", "1")
	p.get(t, n[2], "alice", "1")
	p.get(t, n[3], "alice", "1")

	status, body, err := request(http.MethodGet, p.url(t, n[2])+"/v1/cluster", "")
	var cluster struct {
		Members []struct{ State, Health string }
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &cluster)
	}
	members := 0
	for _, m := range cluster.Members {
		if m.State == "member" && m.Health == "alive" {
			members++
		}
	}
	if err != nil || status != http.StatusOK || members != 3 {
		t.Errorf("cluster: got %d %s %v, want 3 live members", status, body, err)
	}
}

// waitHealthy waits for Docker's own verdict, which is the HEALTHCHECK's.
func waitHealthy(t *testing.T, p *project, container string) {
	t.Helper()
	const limit = time.Minute
	last := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if last = p.run(t, "docker", "inspect", "-f", "{{.State.Health.Status}}", container); last == "healthy" {
			return
		}
	}
	t.Errorf("container %s is %s after %v, want healthy", container, last, limit)
}

// Both Dockerfiles make the same image: they differ only in where the binary comes from.
func TestDockerfilesAgree(t *testing.T) {
	var ends [2][]byte
	for i, name := range []string{"Dockerfile", "Dockerfile.binary"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, end, found := bytes.Cut(b, []byte("\nUSER "))
		if !found {
			t.Fatalf("%s has no USER", name)
		}
		ends[i] = end
	}
	if !bytes.Equal(ends[0], ends[1]) {
		t.Errorf("the images differ:\n%s\n---\n%s", ends[0], ends[1])
	}
}
