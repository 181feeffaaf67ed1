"""`remote`: a repository that evaluates what is pushed to it, as the challenge's does."""

HOOK = """#!/bin/sh
# Made by `python -m submission remote`: evaluates every pushed tag submission-*.
unset $(git rev-parse --local-env-vars)
cd {folder} || exit 1
export PYTHONPATH={project} PYTHONUNBUFFERED=1
while read -r old new ref; do
    case "$ref" in refs/tags/submission-*) ;; *) continue ;; esac
    case "$new" in *[!0]*) ;; *) continue ;; esac  # all zeros: the tag was deleted
    {command} --tag "${{ref#refs/tags/}}" </dev/null || true
done
"""
