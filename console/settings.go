package console

import (
	"context"
	"strings"

	"github.com/nitrino/nitrino/auth"
)

func (s *Server) settingsRows() []row {
	if s.opt.Settings == nil {
		return nil
	}
	paths := func(n int) []string { return only(n, 0, s.opt.Settings.Paths()...) }
	return []row{{
		name: "settings show", bare: true, args: "[PATH]", role: auth.Operator, words: paths,
		does: "show the settings, or a part of them",
		run: func(_ context.Context, c *call) error {
			if err := c.counts(0, 1); err != nil {
				return err
			}
			path := ""
			if len(c.args) == 1 {
				path = c.args[0]
			}
			text, err := c.s.opt.Settings.Show(path)
			if err != nil {
				return err
			}
			c.printf("%s\n", cleanText(strings.TrimRight(string(text), "\n")))
			return nil
		},
	}, {
		name: "settings set", args: "PATH VALUE", role: auth.Administrator, words: paths,
		does: "change a setting",
		more: "VALUE is JSON, or a word that needs no quotes: 5s, true, [\"a\", \"b\"].",
		run: func(_ context.Context, c *call) error {
			if err := c.counts(2, 2); err != nil {
				return err
			}
			return c.s.opt.Settings.Set(c.args[0], c.args[1], c.origin)
		},
	}, {
		name: "settings unset", args: "PATH", role: auth.Administrator, words: paths,
		does: "give a setting back to the card's file or the default",
		run: func(_ context.Context, c *call) error {
			if err := c.counts(1, 1); err != nil {
				return err
			}
			return c.s.opt.Settings.Unset(c.args[0], c.origin)
		},
	}, {
		name: "network keep", role: auth.Administrator,
		does: "keep the changed network, without logging in over it",
		run: func(_ context.Context, c *call) error {
			if err := c.counts(0, 0); err != nil {
				return err
			}
			return c.s.opt.Settings.KeepNetwork(c.origin)
		},
	}}
}
