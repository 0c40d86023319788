"""What --git says."""

from __future__ import annotations

import pytest

from kaniko_core.addresses.cloning import GitOptions, git_options, merged
from kaniko_core.errors import UsageError


def test_options_add_up_and_the_last_word_counts() -> None:
    given = (*git_options("branch=main,depth=5"), *git_options("depth=0,single-branch=false"))
    assert merged(given) == GitOptions(branch="main", depth=0, single_branch=False)
    assert merged(git_options("recurse-submodules=F,insecure-skip-tls=1,labels=true")) == (
        GitOptions(recurse_submodules=False, insecure_skip_tls=True, labels=True)
    )
    assert merged(()) == GitOptions()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("branch", "has no value"),
        ("depth=-1", "number of commits"),
        ("depth=x", "number of commits"),
        ("bran=main", "no option 'bran'"),
        ("single_branch=true", "no option 'single_branch'"),
        ("labels=perhaps", "neither true nor false"),
    ],
)
def test_others_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        git_options(text)
    assert "branch=NAME" in (caught.value.hint or "")
