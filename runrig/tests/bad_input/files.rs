//! Compose files with cycles, exponential anchors, no end, no sense.

use crate::{World, failed};

/// Each level names the one before nine times over.
fn laughing(levels: usize) -> String {
    let mut text = String::from("x-0: &a0 [ha]\n");
    for level in 1..levels {
        let one = format!("*a{}", level - 1);
        let nine = vec![one; 9].join(", ");
        text.push_str(&format!("x-{level}: &a{level} [{nine}]\n"));
    }
    text
}

pub fn send(world: &World) {
    let plain = "services:\n  a:\n    image: busybox\n";
    let cases: Vec<(String, &[&str])> = vec![
        (
            "services:\n  a:\n    image: busybox\n    depends_on: [b]\n  \
             b:\n    image: busybox\n    depends_on: [c]\n  \
             c:\n    image: busybox\n    depends_on: [a]\n"
                .into(),
            &["a", "b", "c"],
        ),
        (
            "services:\n  a:\n    image: busybox\n    depends_on: [a]\n".into(),
            &["a"],
        ),
        (format!("{}{plain}", laughing(12)), &["alias"]),
        (format!("{}{plain}", laughing(300)), &["alias"]),
        ("x-a: &a [*a]\nservices: *a\n".into(), &[]),
        (
            format!(
                "x-deep: {}1{}\n{plain}",
                "[".repeat(5_000),
                "]".repeat(5_000)
            ),
            &["recursion"],
        ),
        (
            format!("x-long: {}\n{plain}", "y".repeat(3 << 20)),
            &["1048576"],
        ),
        (
            format!("x-longer: {}\n{plain}", "y".repeat(5 << 20)),
            &["4 MiB"],
        ),
        (
            "services:\n  a:\n    image: ${A${A${A}}}\n".into(),
            &["bad.yaml:3"],
        ),
        ("\0\0\0".into(), &[]),
        ("- just\n- a list\n".into(), &[]),
        (String::new(), &[]),
        (
            "services:\n  a:\n    image: busybox\n    deploy:\n      replicas: 99999999999\n"
                .into(),
            &["bad.yaml:5"],
        ),
        (
            "services:\n  a:\n    image: busybox\n    mem_limit: -5g\n".into(),
            &["bad.yaml:4"],
        ),
        (
            "services:\n  a:\n    image: busybox\n    ports: [\"0:99999999\"]\n".into(),
            &["bad.yaml:4"],
        ),
        (
            "services:\n  \"../../etc\":\n    image: busybox\n".into(),
            &["bad.yaml:2"],
        ),
        (
            "services:\n  a:\n    image: busybox\n    privileged: true\n".into(),
            &["privileged", "4"],
        ),
        (
            "services:\n  a:\n    image: busybox\n    volumes: [\"/:/host\"]\n".into(),
            &["bad.yaml:4"],
        ),
    ];
    let up = |text: &[u8]| {
        let file = world.cloud.data().with_file_name("bad.yaml");
        std::fs::write(&file, text).expect("written");
        let file = file.display().to_string();
        world.cloud.run(&["up", "-f", &file, "-p", "bad", "--yes"])
    };
    let mut wrong = Vec::new();
    for (text, words) in cases {
        let (code, _, err) = up(text.as_bytes());
        if code != 2 || !words.iter().all(|word| err.contains(word)) {
            let start: String = text.chars().take(80).collect();
            wrong.push(format!("{start:?} {words:?}: {code} {err}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let latin = b"services:\n  a:\n    image: \xff\xfe\n";
    failed(up(latin), 2, &["bad.yaml"]);
    failed(
        world.cloud.run(&["up", "-f", "/no/such", "--yes"]),
        2,
        &["/no/such"],
    );
}
