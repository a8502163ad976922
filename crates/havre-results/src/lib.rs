//! Artifacts and caches of jobs, by the protocols of GitHub's clients.
