package client

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestMembers(t *testing.T) {
	tests := []struct {
		in   string
		want []string // name, raw bytes, …; nil = an error
	}{
		{`{}`, []string{}},
		{" { } \n", []string{}},
		{`{"a":1}`, []string{"a", "1"}},
		{"{ \"a\" : \t1 , \"b\":{\"c\":[1,2,{\"d\":\"}]\"}]}\n}", []string{"a", " \t1 ", "b", "{\"c\":[1,2,{\"d\":\"}]\"}]}\n"}},
		{`{"\u0061\"":"x\\","a\"":null}`, []string{`a"`, `"x\\"`, `a"`, "null"}},
		{`[1]`, nil},
		{`{"a":}`, nil},
		{``, nil},
		{`1`, nil},
		{`{"a":1}x`, nil},
	}
	for _, test := range tests {
		got := []string{}
		err := Members([]byte(test.in), func(name string, raw []byte) error {
			got = append(got, name, string(raw))
			return nil
		})
		if (err != nil) != (test.want == nil) {
			t.Errorf("%q: got error %v", test.in, err)
		}
		for i := range test.want {
			if len(got) != len(test.want) || got[i] != test.want[i] {
				t.Errorf("%q: got %q, want %q", test.in, got, test.want)
				break
			}
		}
	}
}

// FuzzMembers holds the scanner against encoding/json: the same names, and parts that mean the same.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[{}],"c":"\\\""}`, `{ "a" : {"b":"}"} }`, `{"":""}`, `[`, `{"\ud800":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(b, &want)
		got := map[string]json.RawMessage{}
		err := Members(b, func(name string, raw []byte) error {
			if !json.Valid(raw) {
				t.Errorf("%q: member %q is not JSON: %q", b, name, raw)
			}
			var n string
			q, _ := json.Marshal(name)
			if err := json.Unmarshal(q, &n); err != nil {
				t.Error(err)
			}
			got[n] = raw
			return nil
		})
		if string(b) == "null" || wantErr == nil && want == nil {
			return
		}
		if (err != nil) != (wantErr != nil) || err == nil && len(got) != len(want) {
			t.Fatalf("%q: got %v %v, want %v %v", b, got, err, want, wantErr)
		}
	})
}

func TestKeysSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := string(rapid.SliceOf(rapid.Byte()).Draw(t, "key"))
		if rapid.Bool().Draw(t, "text") {
			want = rapid.String().Draw(t, "key")
		}
		b := AppendKey(nil, want)
		var got Key
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if string(got) != want {
			t.Fatalf("got %q, want %q, through %s", got, want, b)
		}
		if !utf8.Valid(b) {
			t.Fatalf("%q is not UTF-8", b)
		}
	})
}

func TestKeysThatMeanNoBytesAreRefused(t *testing.T) {
	for _, s := range []string{`"\ud800"`, "\"\xff\"", `{"base64":"?"}`, `{}`, `7`, `null`} {
		var k Key
		if err := json.Unmarshal([]byte(s), &k); err == nil {
			t.Errorf("%q: got key %q, want an error", s, k)
		}
	}
	var k Key
	if err := json.Unmarshal([]byte(`"\ufffd"`), &k); err != nil || k != "\uFFFD" {
		t.Errorf("got %q %v, want the replacement character that was meant", k, err)
	}
}
