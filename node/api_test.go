package node

import (
	"strings"
	"testing"

	"github.com/rondodb/rondo/httpapi"
	"github.com/rondodb/rondo/httpapi/apitest"
)

// The rules of the API, each at its edges, against a running cluster; every request and answer is checked against the OpenAPI
// document that the cluster serves.
func TestAPI(t *testing.T) {
	c := three(t)
	validator, err := apitest.New(httpapi.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	apitest.Run(t, []string{c.url("n1"), c.url("n2"), c.url("n3")}, apitest.Options{Validator: validator})
}

// A context of another cluster is refused, even for the same bucket and key.
func TestContextOfAnotherCluster(t *testing.T) {
	a, b := three(t), newCluster(t, "other", 1)
	b.start("m1")
	b.awaitReady()
	_, header, _ := a.do("PUT", a.url("n1")+"/v1/kv/b/k", "1")
	token := header.Get("Rondo-Context")
	if token == "" {
		t.Fatal("no context in the answer of a PUT")
	}
	status, _, body := b.do("PUT", b.url("m1")+"/v1/kv/b/k", "2", "Rondo-Context", token)
	if status != 400 || !strings.Contains(string(body), "invalid_argument") || !strings.Contains(string(body), "not_applied") {
		t.Errorf("PUT with a context of another cluster: %d %s", status, body)
	}
}

// A node that knows no ring yet says so and what it waits for.
func TestNotReady(t *testing.T) {
	c := newCluster(t, "test", 3)
	c.start("n1")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		status, _, body := c.do(method, c.url("n1")+"/v1/kv/b/k", "")
		if status != 503 || !strings.Contains(string(body), "not_ready") || !strings.Contains(string(body), "fresh node") {
			t.Errorf("%s without a ring: %d %s", method, status, body)
		}
	}
	if status, _, body := c.do("GET", c.url("n1")+"/livez", ""); status != 200 {
		t.Errorf("/livez without a ring: %d %s", status, body)
	}
}
