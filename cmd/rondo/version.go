package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/rondodb/rondo/node"
	"github.com/spf13/cobra"
)

// apiVersion is the HTTP API that the client side speaks.
const apiVersion = "v1"

func newVersionCommand(s *session) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  rondo version -o json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`FORM` of the answer: table or json")
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := checkTableOrJSON(output); err != nil {
			return err
		}
		v := struct {
			Version  string `json:"version"`
			Module   string `json:"module"`
			Revision string `json:"revision,omitempty"`
			Time     string `json:"time,omitempty"`
			Modified bool   `json:"modified"`
			Go       string `json:"go"`
			Platform string `json:"platform"`
			API      string `json:"api"`
		}{Version: node.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, API: apiVersion}
		if info, ok := debug.ReadBuildInfo(); ok {
			v.Module = info.Main.Path + " " + info.Main.Version
			for _, setting := range info.Settings {
				switch setting.Key {
				case "vcs.revision":
					v.Revision = setting.Value
				case "vcs.time":
					v.Time = setting.Value
				case "vcs.modified":
					v.Modified = setting.Value == "true"
				}
			}
		}
		if output == "json" {
			b, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("encode version: %w", err)
			}
			return s.print(string(b) + "\n")
		}
		text := fmt.Sprintf("rondo %s\n", v.Version)
		if v.Revision != "" {
			text += fmt.Sprintf("commit %s %s\n", v.Revision, v.Time)
		}
		return s.print(text + fmt.Sprintf("%s, %s, HTTP API %s\n", v.Go, v.Platform, v.API))
	}
	return cmd
}
