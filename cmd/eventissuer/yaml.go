package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// yamlFile resolves flags from the file that --config names. It stands behind the environment: a variable that is
// set wins over the file.
type yamlFile struct {
	loaded bool
	path   string
	values map[string]yaml.Node
}

// fileError is a mistake in the file. Kong would put it down to whichever flag it happened to resolve.
type fileError struct{ err error }

// Error implements error.
func (e *fileError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *fileError) Unwrap() error { return e.err }

// Validate implements kong.Resolver.
func (f *yamlFile) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (f *yamlFile) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if !f.loaded {
		if err := f.load(ctx, parent); err != nil {
			return nil, &fileError{err}
		}
	}
	node, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	var value any
	err := node.Decode(&value)
	if err == nil {
		var text any
		if text, err = scalar(value, flag.IsSlice()); err == nil {
			if err = fits(flag, text); err == nil {
				return text, nil
			}
		}
	}
	return nil, &fileError{fmt.Errorf("%s: line %d: %s: %w", f.path, node.Line, flag.Name, err)}
}

// fits tells whether a flag can have the value. Kong finds out too, but does not know where the value stands.
func fits(flag *kong.Flag, text any) error {
	if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), fmt.Sprint(text)) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(flag.EnumSlice(), ", "))
	}
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text})
	return flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, reflect.New(flag.Target.Type()).Elem())
}

// load reads the file once it is known which flags the command has.
func (f *yamlFile) load(ctx *kong.Context, parent *kong.Path) error {
	var names []string
	for _, flag := range parent.Flags {
		if flag.Name == "config" {
			f.path, _ = ctx.FlagValue(flag).(string)
		} else if flag.Name != "help" && flag.Name != "version" {
			names = append(names, flag.Name)
		}
	}
	if len(names) == 0 {
		return nil // the application's own flags: the command's come later
	}
	f.loaded = true
	if f.path == "" {
		return nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := yaml.NewDecoder(file).Decode(&f.values); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the configuration %s: %w", f.path, err)
	}
	for key := range f.values {
		if !slices.Contains(names, key) {
			slices.Sort(names)
			return fmt.Errorf("%s: there is no setting %q; there are: %s", f.path, key, strings.Join(names, ", "))
		}
	}
	return nil
}

// scalar gives a YAML value as it would stand on the command line.
func scalar(value any, isList bool) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, errors.New("there is no value: give one, or leave the key out for the default")
	case []any:
		if !isList {
			return nil, errors.New("one value is wanted, not a list")
		}
		parts := make([]string, len(v))
		for i, item := range v {
			text, err := scalar(item, false)
			if err != nil {
				return nil, err
			}
			parts[i] = strings.ReplaceAll(text.(string), ",", `\,`)
		}
		return strings.Join(parts, ","), nil
	case map[string]any:
		return nil, errors.New("a value or a list is wanted, not a mapping")
	}
	return fmt.Sprint(value), nil
}
