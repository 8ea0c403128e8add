package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// run writes the pages below dir, from the schemas and CRDs below it.
func run(dir string) error {
	pages, err := generate(dir)
	if err != nil {
		return err
	}
	for name, content := range pages {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the pages by name.
func generate(dir string) (map[string][]byte, error) {
	roots := map[string]*field{}
	for _, kind := range kinds {
		root, err := readKind(dir, kind)
		if err != nil {
			return nil, err
		}
		roots[kind] = root
	}
	known, err := readEntries()
	if err != nil {
		return nil, err
	}
	if err := known.check(roots); err != nil {
		return nil, err
	}
	samples, err := loadSamples()
	if err != nil {
		return nil, err
	}
	choices, err := readChoices(typesFolder)
	if err != nil {
		return nil, err
	}
	reference, err := (&page{entries: known, samples: samples, choices: choices}).write(roots)
	if err != nil {
		return nil, err
	}
	appNet, err := appNetPage(roots)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"docs/reference/fleet.md": reference, "docs/appnet.md": appNet}, nil
}
