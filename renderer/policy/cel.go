package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
)

// costLimit of one rule: about what Kubernetes allows a validation rule, times ten,
// since a change can be of a thousand members.
const costLimit = 10_000_000

// environment says what rules see. Everything is of plain values: what a report has
// more of later breaks no rule.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	list := cel.ListType(cel.DynType)
	return cel.NewEnv(
		cel.Variable("risk", cel.StringType),
		cel.Variable("riskLevel", cel.IntType),
		cel.Variable("effects", list),
		cel.Variable("members", list),
		cel.Variable("rings", cel.ListType(cel.StringType)),
		cel.Variable("restarts", list),
		cel.Variable("objects", list),
		cel.OptionalTypes(),
		ext.Strings(), ext.Lists(), ext.Sets(),
	)
})

// compile returns the program of a rule, or what is wrong with it on one line.
func compile(rule string) (cel.Program, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	ast, issues := env.Compile(rule)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("not a rule in CEL: column %d: %s", first.Location.Column()+1, strings.Join(strings.Fields(first.Message), " "))
	}
	if kind := ast.OutputType(); !kind.IsExactType(cel.BoolType) && !kind.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("a rule is true or false, this one is of type %s", kind)
	}
	return env.Program(ast, cel.CostLimit(costLimit))
}

// evaluate tells whether a rule is true of a change.
func evaluate(rule string, seen change) (bool, error) {
	program, err := compile(rule)
	if err != nil {
		return false, err
	}
	out, _, err := program.Eval(seen.values())
	if err != nil {
		return false, err
	}
	passes, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("it is neither true nor false")
	}
	return passes, nil
}
