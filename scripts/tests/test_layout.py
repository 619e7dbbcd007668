"""Rooms that depend on each other are found, however their paths are written."""

from __future__ import annotations

import unittest
from pathlib import Path

from layout import cycles, graph, strays
from lastgood_dev.repo import ROOT


def rooms(**files: str) -> dict[str, set[str]]:
    return graph({Path(name.replace("__", "/") + ".rs"): text for name, text in files.items()})


class Layout(unittest.TestCase):
    def test_a_tree_of_paths_is_read_to_its_leaves(self) -> None:
        text = "use crate::{\n    a::{self, B},\n    engine::{mongodb::C, tls},\n    d::E as F,\n};\nfn f() { crate::g::h() }"
        found = rooms(x=text, engine__mongodb="", engine__tls="", a="", d="", g="")
        self.assertEqual(found["x"], {"a", "engine/mongodb", "engine/tls", "d", "g"})

    def test_comments_tests_and_the_room_itself_do_not_count(self) -> None:
        text = "//! As crate::a has it.\nuse crate::x::Y;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}"
        self.assertEqual(rooms(x=text, x__tests="use crate::c;", a="", b="", c="")["x"], set())

    def test_a_circle_of_any_length_is_found(self) -> None:
        circle = rooms(a="use crate::b;", b="use crate::c;", c="use crate::a;", d="use crate::a;")
        self.assertEqual(cycles(circle), [["a", "b", "c", "a"]])
        self.assertEqual(cycles(rooms(a="use crate::b;", b="use crate::c;", c="")), [])

    def test_what_a_tool_has_left_at_the_top_level_is_found(self) -> None:
        self.assertEqual(strays([ROOT / "README.md", ROOT / "src" / "new.rs", ROOT / "some-1.0-any.whl"]), ["some-1.0-any.whl"])


if __name__ == "__main__":
    unittest.main()
