// Takes one measurement of each metric of an AnalysisTemplate, with Argo Rollouts' own web metric
// provider and condition evaluator, and writes what came out as JSON. The test beside it starts the
// server and judges the output.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/argoproj/argo-rollouts/metricproviders/webmetric"
	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	analysisutil "github.com/argoproj/argo-rollouts/utils/analysis"
	"github.com/sirupsen/logrus"
	"sigs.k8s.io/yaml"
)

type measured struct {
	Phase   v1alpha1.AnalysisPhase `json:"phase"`
	Message string                 `json:"message"`
	Value   json.RawMessage        `json:"value"`
}

// load reads a template strictly: a field that Argo Rollouts does not know is an error.
func load(path string) (*v1alpha1.AnalysisTemplate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	template := &v1alpha1.AnalysisTemplate{}
	if err := yaml.UnmarshalStrict(text, template); err != nil {
		return nil, err
	}
	return template, analysisutil.ValidateMetrics(template.Spec.Metrics)
}

// arguments fills in a template's arguments as a Rollout does: each `name=value` must be one of them.
func arguments(template *v1alpha1.AnalysisTemplate, given []string) ([]v1alpha1.Argument, error) {
	incoming := make([]v1alpha1.Argument, 0, len(given))
	for _, one := range given {
		name, value, found := strings.Cut(one, "=")
		if !found {
			return nil, errors.New("arguments are name=value")
		}
		incoming = append(incoming, v1alpha1.Argument{Name: name, Value: &value})
	}
	return analysisutil.MergeArgs(incoming, template.Spec.Args)
}

func measure(metric v1alpha1.Metric, args []v1alpha1.Argument) (measured, error) {
	resolved, err := analysisutil.ResolveMetricArgs(metric, args)
	if err != nil {
		return measured{}, err
	}
	client, err := webmetric.NewWebMetricHttpClient(*resolved)
	if err != nil {
		return measured{}, err
	}
	parser, err := webmetric.NewWebMetricJsonParser(*resolved)
	if err != nil {
		return measured{}, err
	}
	entry := *logrus.NewEntry(logrus.StandardLogger())
	provider := webmetric.NewWebMetricProvider(entry, client, parser)
	found := provider.Run(&v1alpha1.AnalysisRun{}, *resolved)
	value := json.RawMessage(found.Value)
	if !json.Valid(value) {
		value = json.RawMessage("null")
	}
	return measured{found.Phase, found.Message, value}, nil
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("usage: TEMPLATE [NAME=VALUE ...]")
	}
	template, err := load(os.Args[1])
	if err != nil {
		return err
	}
	args, err := arguments(template, os.Args[2:])
	if err != nil {
		return err
	}
	all := map[string]measured{}
	for _, metric := range template.Spec.Metrics {
		found, err := measure(metric, args)
		if err != nil {
			return fmt.Errorf("%s: %w", metric.Name, err)
		}
		all[metric.Name] = found
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
