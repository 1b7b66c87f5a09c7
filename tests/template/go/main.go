// Renders templates with Go's own text/template, sprig, and the YAML functions of
// external-secrets: the judge that the engine's outputs are compared with.
//
// Standard input has one JSON object a line: text and values, all in base64. Standard output has
// one a line as well: the output in base64, or the error.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

type request struct {
	Text   []byte            `json:"text"`
	Values map[string][]byte `json:"values"`
}

type reply struct {
	Output []byte `json:"output"`
	Error  string `json:"error,omitempty"`
}

// The time that the tests' simulated clock shows.
var now = time.Unix(1700000000, 0).UTC()

func functions() template.FuncMap {
	all := sprig.TxtFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(all, name)
	}
	all["now"] = func() time.Time { return now }
	all["toYaml"] = func(value any) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	all["fromYaml"] = func(text string) map[string]any {
		found := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &found); err != nil {
			found["Error"] = err.Error()
		}
		return found
	}
	return all
}

func render(request request) (output []byte, err error) {
	defer func() {
		if found := recover(); found != nil {
			err = fmt.Errorf("panic: %v", found)
		}
	}()
	parsed, err := template.New("t").Option("missingkey=error").Funcs(functions()).Parse(string(request.Text))
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(request.Values))
	for key, value := range request.Values {
		values[key] = string(value)
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, values)
	return out.Bytes(), err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		var request request
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			panic(err)
		}
		output, err := render(request)
		answer := reply{Output: output}
		if err != nil {
			answer = reply{Error: err.Error()}
		}
		if err := encoder.Encode(answer); err != nil {
			panic(err)
		}
	}
}
