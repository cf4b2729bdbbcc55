package node

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Source tells where a value came from: "flag", "env", "file" or "default".
type Source string

// Sources in rising order of precedence.
const (
	FromDefault Source = "default"
	FromFile    Source = "file"
	FromEnv     Source = "env"
	FromFlag    Source = "flag"
)

// Load builds a configuration: a flag beats the environment, the environment beats the file, the file beats the default.
// flag and env look a value up by flag name and by variable name. file is the path of a TOML file, "" for none; a key in it
// that is not a setting is an error, with its line. The second result says where each setting came from.
func Load(file string, flag, env func(name string) (string, bool)) (Config, map[string]Source, error) {
	var c Config
	sources := map[string]Source{}
	keys, err := readFile(file)
	if err != nil {
		return c, nil, err
	}
	for _, s := range Settings() {
		value, source := s.Default, FromDefault
		if v, ok := keys[s.Name]; ok {
			value, source = v, FromFile
		}
		if v, ok := env(s.Env()); ok {
			value, source = v, FromEnv
		}
		if v, ok := flag(s.Name); ok {
			value, source = v, FromFlag
		}
		sources[s.Name] = source
		if value == "" && source == FromDefault {
			continue
		}
		if err := s.set(&c, value); err != nil {
			where := map[Source]string{FromFlag: "--" + s.Name, FromEnv: s.Env(), FromFile: file + ": " + s.Name, FromDefault: s.Name}[source]
			return c, nil, fmt.Errorf("%s: %w", where, err)
		}
	}
	return c, sources, c.validate()
}

// readFile reads the TOML file into setting name → text. Unknown keys fail.
func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var values map[string]any
	if err := toml.Unmarshal(b, &values); err != nil {
		var bad *toml.DecodeError
		if errors.As(err, &bad) {
			line, column := bad.Position()
			return nil, fmt.Errorf("%s:%d:%d: %w", path, line, column, err)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	known := map[string]bool{}
	var names []string
	for _, s := range Settings() {
		known[s.Name] = true
		names = append(names, s.Name)
	}
	out := map[string]string{}
	for key, value := range values {
		if !known[key] {
			return nil, fmt.Errorf("%s:%d: unknown key %q: use one of %s", path, lineOf(string(b), key), key, strings.Join(names, ", "))
		}
		switch v := value.(type) {
		case []any:
			parts := make([]string, len(v))
			for i := range v {
				parts[i] = fmt.Sprint(v[i])
			}
			out[key] = strings.Join(parts, ",")
		case map[string]any:
			return nil, fmt.Errorf("%s:%d: %q is a table: settings are plain keys", path, lineOf(string(b), key), key)
		default:
			out[key] = fmt.Sprint(v)
		}
	}
	return out, nil
}

// lineOf finds the line on which a key is set, for messages; 1 where it cannot tell.
func lineOf(text, key string) int {
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.Trim(strings.TrimSpace(line), `[]"'`)
		if strings.HasPrefix(trimmed, key) {
			return i + 1
		}
	}
	return 1
}

// Describe lists every setting of a configuration as name, value and source, in the order of Settings.
func Describe(c Config, sources map[string]Source) [][3]string {
	var out [][3]string
	for _, s := range Settings() {
		out = append(out, [3]string{s.Name, s.get(&c), string(sources[s.Name])})
	}
	return out
}
