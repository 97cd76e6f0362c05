// Calls every webhook of a Canary with Flagger's own code and writes what it made of the answers as
// JSON: by name, null for a success and the text of the error otherwise. The test beside it starts the
// server and judges the output.
package main

import (
	"encoding/json"
	"errors"
	"log"
	"os"
	"strings"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"github.com/fluxcd/flagger/pkg/controller"
	"sigs.k8s.io/yaml"
)

func run() error {
	if len(os.Args) != 4 {
		return errors.New("usage: CANARY ADDRESS-IN-IT ADDRESS-TO-CALL")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	canary := flaggerv1.Canary{}
	// Strict: a field that Flagger does not know is an error.
	if err := yaml.UnmarshalStrict(text, &canary); err != nil {
		return err
	}
	found := map[string]*string{}
	for _, hook := range canary.GetAnalysis().Webhooks {
		hook.URL = strings.ReplaceAll(hook.URL, os.Args[2], os.Args[3])
		found[string(hook.Type)] = nil
		if err := controller.CallWebhook(canary, flaggerv1.CanaryPhaseProgressing, hook); err != nil {
			message := err.Error()
			found[string(hook.Type)] = &message
		}
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
