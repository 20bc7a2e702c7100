//! Precedence, and the words of errors.

use super::*;
use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

const MIB: usize = 1 << 20;

/// A machine, an environment and a working directory of the test's own.
struct World {
    machine: Machine,
    env: HashMap<String, OsString>,
    file: PathBuf,
}

impl World {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("farptr-settings-{}-{unique}.toml", std::process::id()));
        World { machine: Machine { memory: Some(1 << 30), cores: 4 }, env: HashMap::new(), file }
    }

    fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    fn file(self, text: &str) -> Self {
        fs::write(&self.file, text).unwrap();
        self
    }

    fn resolve(&self, builder: SettingsBuilder) -> Result<Settings, String> {
        let resolved = builder.resolve_on(&self.machine, &|name| self.env.get(name).cloned(), &self.file);
        resolved.map_err(|error| error.to_string().replace(self.file.to_str().unwrap(), "farptr.toml"))
    }

    fn error(&self, builder: SettingsBuilder) -> String {
        let said = self.resolve(builder).unwrap_err();
        assert!(!said.contains('\n'), "an error is one line: {said}");
        said
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[test]
fn with_nothing_said_there_are_defaults() {
    let settings = World::new().resolve(SettingsBuilder::default()).unwrap();
    let servers = vec![ServerAddr::Embedded];
    let defaults =
        Settings { local_budget: 256 * MIB, servers, shards: DEFAULT_SHARDS, far_capacity: None, timeout: DEFAULT_TIMEOUT };
    assert_eq!(settings, defaults);
}

#[test]
fn the_file_gives_every_setting() {
    let world = World::new().file(
        r#"
        local_budget = "64MiB"
        servers = ["tcp:127.0.0.1:7070", "tcp:[::1]:7071"]
        shards = 2
        far_capacity = 1073741824
        timeout = "750ms"
        "#,
    );
    let settings = world.resolve(SettingsBuilder::default()).unwrap();
    let servers = vec![ServerAddr::Tcp("127.0.0.1:7070".into()), ServerAddr::Tcp("[::1]:7071".into())];
    let timeout = Duration::from_millis(750);
    assert_eq!(settings, Settings { local_budget: 64 * MIB, servers, shards: 2, far_capacity: Some(1 << 30), timeout });
}

#[test]
fn the_builder_overrules_the_environment_and_that_the_file() {
    let world = World::new()
        .file("local_budget = \"16MiB\"\nshards = 1\ntimeout = \"1s\"\nservers = \"tcp:file:1\"")
        .env("FARPTR_LOCAL_BUDGET", "32MiB")
        .env("FARPTR_SHARDS", "2")
        .env("FARPTR_SERVERS", "tcp:env:1, embedded:");
    let builder = SettingsBuilder { local_budget: Some(64 * MIB), ..Default::default() };
    let settings = world.resolve(builder).unwrap();
    assert_eq!(settings.local_budget, 64 * MIB);
    assert_eq!(settings.shards, 2);
    assert_eq!(settings.servers, [ServerAddr::Tcp("env:1".into()), ServerAddr::Embedded]);
    assert_eq!(settings.timeout, Duration::from_secs(1));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let world = World::new().file("shards = 3").env("FARPTR_SHARDS", " ");
    assert_eq!(world.resolve(SettingsBuilder::default()).unwrap().shards, 3);
}

#[test]
fn a_file_that_is_named_is_read_instead_of_the_default_one() {
    let [by_env, by_builder] = [2, 3].map(|shards| World::new().file(&format!("shards = {shards}")));
    let world = World::new().file("shards = 1");
    assert_eq!(world.resolve(SettingsBuilder::default()).unwrap().shards, 1);
    let world = world.env("FARPTR_CONFIG", by_env.file.as_os_str());
    assert_eq!(world.resolve(SettingsBuilder::default()).unwrap().shards, 2);
    let builder = SettingsBuilder { config_file: Some(by_builder.file.clone()), ..Default::default() };
    assert_eq!(world.resolve(builder).unwrap().shards, 3);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let missing = World::new().file.clone();
    let said = World::new().env("FARPTR_CONFIG", missing.as_os_str()).error(SettingsBuilder::default());
    assert!(said.starts_with("environment variable FARPTR_CONFIG: can't read "), "{said}");
    let builder = SettingsBuilder { config_file: Some(missing), ..Default::default() };
    assert!(World::new().error(builder).starts_with("Builder::config_file: can't read "));
}

#[test]
fn an_endless_file_is_not_a_configuration() {
    let builder = SettingsBuilder { config_file: Some("/dev/zero".into()), ..Default::default() };
    let said = World::new().error(builder);
    assert!(said.contains("not a configuration file"), "{said}");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let world = World::new();
    rustix::fs::mknodat(rustix::fs::CWD, &world.file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let said = world.error(SettingsBuilder::default());
    assert!(said.starts_with("can't read farptr.toml: it is a pipe"), "{said}");
}

/// Whoever may not search the current folder has no `farptr.toml` in it.
#[test]
fn a_default_file_in_a_folder_that_may_not_be_searched_is_none() {
    let mut world = World::new();
    let folder = world.file.with_extension("folder");
    fs::create_dir(&folder).unwrap();
    world.file = folder.join("farptr.toml");
    let world = world.file("shards = 3");
    assert_eq!(world.resolve(SettingsBuilder::default()).unwrap().shards, 3);
    fs::set_permissions(&folder, Permissions::from_mode(0o600)).unwrap();
    let (shards, is_searched) =
        (world.resolve(SettingsBuilder::default()).map(|settings| settings.shards), fs::metadata(&world.file).is_ok());
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    // Root may search any.
    assert_eq!(shards.unwrap(), if is_searched { 3 } else { DEFAULT_SHARDS });
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
    let said = World::new().file("shards = 1\n\nlocal_buget = \"64MiB\"\n").error(SettingsBuilder::default());
    assert!(said.starts_with("farptr.toml:3: unknown key `local_buget`"), "{said}");
    assert!(said.contains("`local_budget`"), "{said}");
}

#[test]
fn broken_toml_is_named_with_its_line() {
    let said = World::new().file("shards = 1\ntimeout = \n").error(SettingsBuilder::default());
    assert!(said.starts_with("farptr.toml:2: "), "{said}");
}

#[test]
fn a_wrong_value_in_the_file_is_named_with_its_line_and_key() {
    for (text, said) in [
        ("\nlocal_budget = \"64 apples\"", "farptr.toml:2: local_budget: `64 apples` is not a size; write it like"),
        ("local_budget = -5", "farptr.toml:1: local_budget: `-5` is not a size; write it like"),
        ("local_budget = true", "farptr.toml:1: local_budget: `true` is not a size; write it like"),
        ("shards = \"two\"", "farptr.toml:1: shards: `\"two\"` is not a whole number"),
        ("shards = -1", "farptr.toml:1: shards: `-1` is not a whole number"),
        ("timeout = 5", "farptr.toml:1: timeout: `5` is not a length of time; write it like"),
        ("servers = []", "farptr.toml:1: servers: the list is empty"),
        ("servers = [7070]", "farptr.toml:1: servers: `7070` is not a server's address"),
        ("servers = \"127.0.0.1:1\"", "farptr.toml:1: servers: server `127.0.0.1:1` names no transport; write `tcp:127.0.0.1:1`"),
        ("[servers]\na = 1", "farptr.toml:1: servers: "),
    ] {
        let error = World::new().file(text).error(SettingsBuilder::default());
        assert!(error.starts_with(said), "{text}: {error}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    use std::os::unix::ffi::OsStringExt;
    for (name, value, said) in [
        ("FARPTR_LOCAL_BUDGET", "some", "environment variable FARPTR_LOCAL_BUDGET: `some` is not a size"),
        ("FARPTR_FAR_CAPACITY", "all", "environment variable FARPTR_FAR_CAPACITY: `all` is not a size"),
        ("FARPTR_SHARDS", "1.5", "environment variable FARPTR_SHARDS: `1.5` is not a whole number"),
        ("FARPTR_TIMEOUT", "soon", "environment variable FARPTR_TIMEOUT: `soon` is not a length of time"),
        ("FARPTR_SERVERS", "tcp:a:1,,", "environment variable FARPTR_SERVERS: `` is not a server's address"),
    ] {
        let error = World::new().env(name, value).error(SettingsBuilder::default());
        assert!(error.starts_with(said), "{error}");
    }
    let not_text = OsString::from_vec(vec![b'6', b'4', 0xff]);
    let error = World::new().env("FARPTR_LOCAL_BUDGET", not_text).error(SettingsBuilder::default());
    assert_eq!(error, "environment variable FARPTR_LOCAL_BUDGET: is not UTF-8");
}

/// The fuzz target `settings` found that a budget of more than 2^64 bytes was taken for 2^64 - 1, where nothing said how much memory there is.
#[test]
fn a_budget_beyond_all_memory_is_refused_also_where_no_memory_is_known() {
    for value in ["99999999999999999999", "16EiB", "18446744073709551614", "200TiB"] {
        let mut world = World::new().env("FARPTR_LOCAL_BUDGET", value);
        world.machine.memory = None;
        let error = world.error(SettingsBuilder::default());
        assert!(error.starts_with("environment variable FARPTR_LOCAL_BUDGET: "), "{error}");
    }
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    let world = World::new();
    let of = SettingsBuilder::default;
    for (builder, said) in [
        (SettingsBuilder { local_budget: Some(0), ..of() }, "Builder::local_budget: 0 bytes are too few"),
        (
            SettingsBuilder { local_budget: Some(MIN_LOCAL_BUDGET - 1), ..of() },
            "Builder::local_budget: 1048575 bytes are too few",
        ),
        (SettingsBuilder { local_budget: Some(usize::MAX), ..of() }, "Builder::local_budget: 16.0 EiB are more than the 1.0 GiB"),
        (SettingsBuilder { shards: Some(5), ..of() }, "Builder::shards: 5 shards on 4 core(s)"),
        (SettingsBuilder { far_capacity: Some(0), ..of() }, "Builder::far_capacity: 0 bytes of far memory"),
        (
            SettingsBuilder { far_capacity: Some(u64::MAX), ..of() },
            "Builder::far_capacity: 16.0 EiB are beyond the limit of 1.0 PiB",
        ),
        (SettingsBuilder { timeout: Some(Duration::ZERO), ..of() }, "Builder::timeout: 0s is out of range; give 1ms to 1h"),
        (SettingsBuilder { timeout: Some(Duration::MAX), ..of() }, "Builder::timeout: "),
        (SettingsBuilder { servers: vec!["farmemd".into()], ..of() }, "Builder::server: `farmemd` is not a server's address"),
        (SettingsBuilder { servers: vec!["tcp:a:1".into(); 2], ..of() }, "Builder::server: server tcp:a:1 is given twice"),
    ] {
        let error = world.error(builder);
        assert!(error.starts_with(said), "{error}");
    }
    let smallest = SettingsBuilder { local_budget: Some(MIN_LOCAL_BUDGET), shards: Some(4), ..of() };
    assert_eq!(world.resolve(smallest).unwrap().local_budget, MIN_LOCAL_BUDGET);
}

#[test]
fn a_value_out_of_range_that_is_overruled_does_no_harm() {
    let world = World::new().file("shards = 999");
    let settings = world.resolve(SettingsBuilder { shards: Some(1), ..Default::default() }).unwrap();
    assert_eq!(settings.shards, 1);
}

#[test]
fn mistakes_read_as_the_documentation_says() {
    let docs = include_str!("../../../docs/configuration.md");
    let of = SettingsBuilder::default;
    for said in [
        World::new().file("\n\nlocal_buget = \"64MiB\"").error(of()),
        World::new().env("FARPTR_SERVERS", "127.0.0.1:7070").error(of()),
        World::new().error(SettingsBuilder { shards: Some(5), ..of() }),
    ] {
        assert!(docs.contains(&said), "docs/configuration.md doesn't have: {said}");
    }
}

#[test]
fn the_file_in_the_documentation_is_accepted() {
    let docs = include_str!("../../../docs/configuration.md");
    let file = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("there is a file in the docs");
    let settings = World::new().file(file).resolve(SettingsBuilder::default()).unwrap();
    assert_eq!((settings.local_budget, settings.servers.len(), settings.shards), (64 * MIB, 2, 2));
}

/// The fuzz target `settings` found that an error quoted a value as it was, and a text with a line break made it two lines, of which only the
/// first named the place.
#[test]
fn an_error_is_one_line_even_if_the_value_is_not() {
    for (name, value) in [("FARPTR_LOCAL_BUDGET", "6\n4MiB"), ("FARPTR_SERVERS", "tcp:a\nb:1"), ("FARPTR_TIMEOUT", "5\r\n")] {
        let said = World::new().env(name, value).error(SettingsBuilder::default());
        assert!(said.starts_with(&format!("environment variable {name}: ")), "{said}");
    }
    World::new().file("local_budget = \"6\\n4MiB\"").error(SettingsBuilder::default());
}
