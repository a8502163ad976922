//! Every key of `git` and `ci` of `machine.yaml`.

use super::super::{Described, Mapping, Shape, names, section};

const SIZE: Shape = Shape::Number("^[0-9]+([.][0-9]+)?([bBkKmMgGtT][bB]?)?$");
const COUNT: Shape = Shape::Number("^[0-9]+$");

const GIT_KEYS: [Described; 4] = [
    Described {
        name: "push",
        shape: SIZE,
        text: "What one push may send. Default: 2g.",
        example: r#""2g""#,
    },
    Described {
        name: "repositories",
        shape: COUNT,
        text: "How many repositories there may be. Default: 1000.",
        example: "1000",
    },
    Described {
        name: "repository",
        shape: SIZE,
        text: "What one repository may take on disk; one that takes it is pushed to no more. Default: 10g.",
        example: r#""10g""#,
    },
    Described {
        name: "total",
        shape: SIZE,
        text: "What all repositories may take on disk together. Default: 100g.",
        example: r#""100g""#,
    },
];

const CI_KEYS: [Described; 5] = [
    Described {
        name: "artifacts",
        shape: SIZE,
        text: "What all artifacts of one project may take; one more is refused. Default: 50g.",
        example: r#""50g""#,
    },
    Described {
        name: "caches",
        shape: SIZE,
        text: "What all caches of one project may take; those that were not used for longest give way. Default: 10g.",
        example: r#""10g""#,
    },
    Described {
        name: "keep",
        shape: Shape::Text {
            pattern: "^([0-9]+(us|ms|s|m|h))+$",
            longest: 40,
        },
        text: "How long an artifact is kept that does not ask for less (`retention-days`). Default: 2160h, 90 days.",
        example: r#""720h""#,
    },
    Described {
        name: "labels",
        shape: Shape::Pairs,
        text: "Images by labels of `runs-on`: jobs of such a label run in it. Without one a job runs on this machine's \
               programs.",
        example: r#"{"ubuntu-latest": "registry.example.org/runner:24.04"}"#,
    },
    Described {
        name: "total",
        shape: SIZE,
        text: "What artifacts and caches of all projects may take together. Default: 100g.",
        example: r#""100g""#,
    },
];

/// `git`
pub(crate) const GIT: Mapping = Mapping {
    section: section("machine.yaml: git", &names(&GIT_KEYS)),
    keys: &GIT_KEYS,
    required: &[],
    exclusive: &[],
};
/// `ci`
pub(crate) const CI: Mapping = Mapping {
    section: section("machine.yaml: ci", &names(&CI_KEYS)),
    keys: &CI_KEYS,
    required: &[],
    exclusive: &[],
};
