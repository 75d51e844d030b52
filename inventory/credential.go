package inventory

import (
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// passwordSources are the attributes that say where a credential's secret is.
var passwordSources = []string{"password", "password_file", "password_command"}

// credential is built from its block, which must name one source of the secret.
func (ev *evaluator) credential(in *inst) *Credential {
	c := &Credential{Name: in.name, Username: get[string](in, "username"), Password: Secret(get[string](in, "password")),
		PasswordFile: get[string](in, "password_file"), Range: in.rng, PasswordRange: in.rng}
	var given []string
	for _, name := range passwordSources {
		if v := in.val(name); v.there && v.cty != cty.NilVal {
			given = append(given, name)
			c.PasswordRange = in.at(name)
		}
	}
	switch {
	case len(given) == 0:
		ev.errorAt(in.rng, in.each, "Credential without a password",
			"%s needs one of %s: a sensitive variable, a file that only you can read, or a command that prints the password.", in.label(), strings.Join(passwordSources, ", "))
	case len(given) > 1:
		ev.errorAt(in.at(given[1]), in.each, "Two sources of one password",
			"%s has %s: keep one, so that it is plain which password is sent.", in.label(), strings.Join(given, " and "))
	}
	if in.has("password_command") {
		c.PasswordCommand = slices.Clone(get[[]string](in, "password_command"))
		if len(c.PasswordCommand) == 0 || c.PasswordCommand[0] == "" {
			ev.errorAt(in.at("password_command"), in.each, "Empty command", "password_command of %s is a program and its arguments, as [\"pass\", \"show\", \"bmc\"].", in.label())
		}
	}
	return c
}
