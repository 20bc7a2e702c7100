//! A program that uses `farptr` over a real `farmemd`: data, budgets, and what happens when the server dies.

mod common;

use common::{Farmemd, assert_empty, block_on, numbers, zeal_contradicts};
use farptr::{Error, FarMemory, RemBox, RemVec};
use std::future::Future;
use std::rc::Rc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Reads and writes at random against a model, from several threads.
fn exercise(mem: &FarMemory, threads: u64, objects: u64, steps: u64) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut next = numbers(thread + 1);
                let mut model: Vec<u64> = (0..objects).collect();
                let mut boxes: Vec<_> = model.iter().map(|n| RemBox::new_in([*n; 64], mem)).collect();
                for _ in 0..steps {
                    let i = next() as usize % boxes.len();
                    if next().is_multiple_of(4) {
                        model[i] = next();
                        boxes[i].with_mut(|v| *v = [model[i]; 64]);
                    } else {
                        boxes[i].with(|v| assert_eq!(*v, [model[i]; 64]));
                    }
                }
            });
        }
    });
}

/// A server of each kind.
const KINDS: [fn(&str) -> Farmemd; 2] = [Farmemd::start, Farmemd::at_socket];

#[test]
fn data_survives_the_way_to_a_server_and_back_from_several_threads() {
    for start in KINDS {
        let server = start("128MiB");
        let mem = server.memory(2 << 20);
        exercise(&mem, 3, 10_000, 20_000);
        assert!(mem.stats().misses > 10_000, "{:?}", mem.stats());
        assert_empty(&mem);
    }
}

/// Their far memory is one, over a network, in mapped memory and in this process.
#[test]
fn servers_of_all_kinds_are_used_side_by_side() {
    let servers = KINDS.map(|start| start("8MiB"));
    let mut builder = FarMemory::builder().local_budget(4 << 20).server("embedded:").far_capacity(64 << 20);
    for server in &servers {
        builder = builder.server(&server.address);
    }
    let mem = builder.build().unwrap();
    exercise(&mem, 2, 10_000, 10_000);
    let big: Vec<_> = (0..20u8).map(|n| RemBox::from_slice_in(&[n; 1 << 20], &mem)).collect();
    mem.evacuate_all().unwrap();
    assert!(mem.stats().far_borrowed_bytes > 16 << 20, "more than two of them lend: {:?}", mem.stats());
    big.iter().enumerate().for_each(|(n, big)| big.with(|bytes| assert!(bytes.iter().all(|b| usize::from(*b) == n))));
    drop(big);
    assert_empty(&mem);
}

#[test]
fn large_objects_and_scans_over_a_server() {
    for start in KINDS {
        large_objects_and_scans(&start("128MiB"));
    }
}

fn large_objects_and_scans(server: &Farmemd) {
    let mem = server.memory(4 << 20);
    let mut next = numbers(5);
    let bytes: Vec<Vec<u8>> = (0..12).map(|_| (0..1_200_000).map(|_| next() as u8).collect()).collect();
    let large: Vec<RemBox<[u8]>> = bytes.iter().map(|bytes| RemBox::from_slice_in(bytes, &mem)).collect();
    let mut vec = RemVec::new_in(&mem);
    vec.extend(0..2_000_000u64);
    for (large, bytes) in large.iter().zip(&bytes) {
        large.with(|far| assert!(far == bytes));
    }
    let mut sum = 0;
    vec.for_each_slice(.., |_, slice| sum += slice.iter().sum::<u64>());
    assert_eq!(sum, (0..2_000_000).sum());
    drop((large, vec));
    assert_empty(&mem);
}

#[test]
fn async_forms_work_on_any_executor() {
    let server = Farmemd::start("64MiB");
    let mem = server.memory(1 << 20);
    let mut boxes: Vec<_> = (0..4000u64).map(|n| RemBox::new_in([n; 128], &mem)).collect();
    let large = RemBox::from_slice_in(&[9u8; 300_000], &mem);
    mem.evacuate_all().unwrap();
    block_on(async {
        for (n, value) in boxes.iter_mut().enumerate() {
            assert_eq!(*value.pin_async().await.unwrap(), [n as u64; 128]);
            value.with_mut_async(|v| v[0] += 1).await.unwrap();
        }
        large.with_async(|bytes| assert!(bytes.iter().all(|b| *b == 9) && bytes.len() == 300_000)).await.unwrap();
    });
    mem.evacuate_all().unwrap();
    for (n, value) in boxes.iter().enumerate() {
        value.with(|v| assert_eq!((v[0], v[127]), (n as u64 + 1, n as u64)));
    }
}

#[test]
fn a_dropped_future_leaves_its_fetch_to_others() {
    let server = Farmemd::start("64MiB");
    let mem = server.memory(1 << 20);
    let boxes: Vec<_> = (0..100u64).map(|n| RemBox::new_in([n; 128], &mem)).collect();
    mem.evacuate_all().unwrap();
    let waker = std::task::Waker::noop();
    for value in &boxes {
        let mut future = Box::pin(value.pin_async());
        let _ = future.as_mut().poll(&mut std::task::Context::from_waker(waker));
    }
    // Read by blocking, read by awaiting, or dropped while the fetch is under way.
    for (n, value) in boxes.into_iter().enumerate() {
        match n % 3 {
            0 => value.with(|v| assert_eq!(*v, [n as u64; 128])),
            1 => assert_eq!(*block_on(value.pin_async()).unwrap(), [n as u64; 128]),
            _ => drop(value),
        }
    }
    assert_empty(&mem);
}

/// 500 threads that missed at once came to 200 reads a second: each looked every 50 us whether another's fetch had ended.
#[test]
fn five_hundred_threads_miss_at_once() {
    if zeal_contradicts(
        "five_hundred_threads_miss_at_once",
        "each of their scopes is a point of evacuation, which takes too long",
    ) {
        return;
    }
    let server = Farmemd::start("128MiB");
    let mem = server.memory(8 << 20);
    let boxes: Vec<_> = (0..8000u64).map(|n| RemBox::new_in([n; 512], &mem)).collect();
    let (begin, threads) = (Barrier::new(501), 500);
    let started = std::thread::scope(|scope| {
        for thread in 0..threads {
            let (boxes, begin) = (&boxes, &begin);
            let reader = std::thread::Builder::new().stack_size(256 << 10);
            let read = move || {
                let mut next = numbers(thread + 1);
                begin.wait();
                for _ in 0..40 {
                    let n = next() % 8000;
                    boxes[n as usize].try_with(|v| assert_eq!(*v, [n; 512])).unwrap();
                }
            };
            reader.spawn_scoped(scope, read).expect("a thread");
        }
        begin.wait();
        Instant::now()
    });
    // At 200 a second it would be 100 s.
    assert!(started.elapsed() < Duration::from_secs(30), "20,000 reads took {:?}", started.elapsed());
    drop(boxes);
    assert_empty(&mem);
}

#[test]
fn many_tasks_of_a_shard_miss_at_the_same_time() {
    if let Err(missing) = farptr_runtime::sys::probe_io_uring() {
        eprintln!("SKIPPED: many_tasks_of_a_shard_miss_at_the_same_time: {missing}");
        return;
    }
    let server = Farmemd::start("128MiB");
    let mem = FarMemory::builder().local_budget(4 << 20).server(&server.address).shards(1).build().unwrap();
    let inner = mem.clone();
    let task = mem.spawn(0, move || async move {
        let boxes: Rc<Vec<_>> = Rc::new((0..8000u64).map(|n| RemBox::new_in([n; 512], &inner)).collect());
        let tasks: Vec<_> = (0..64)
            .map(|seed| {
                let boxes = Rc::clone(&boxes);
                glommio::spawn_local(async move {
                    let mut next = numbers(seed + 1);
                    for _ in 0..500 {
                        let n = next() % 8000;
                        boxes[n as usize].with_async(|v| assert_eq!(*v, [n; 512])).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        boxes.len()
    });
    assert_eq!(task.unwrap().join().unwrap(), 8000);
    assert_empty(&mem);
}

#[test]
fn killed_server_is_an_error_and_what_is_local_stays_readable() {
    if zeal_contradicts(
        "killed_server_is_an_error_and_what_is_local_stays_readable",
        "what is clean leaves also when nothing can be fetched any more",
    ) {
        return;
    }
    let mut server = Farmemd::start("128MiB");
    let mem = server.memory(2 << 20);
    let boxes: Vec<_> = (0..20_000u64).map(|n| RemBox::new_in([n; 64], &mem)).collect();
    // In the middle of reads from two threads.
    std::thread::scope(|scope| {
        for seed in 1..3 {
            let boxes = &boxes;
            scope.spawn(move || {
                let mut next = numbers(seed);
                let started = Instant::now();
                loop {
                    let n = next() % boxes.len() as u64;
                    let before = Instant::now();
                    match boxes[n as usize].try_with(|v| assert_eq!(*v, [n; 64])) {
                        Ok(()) => assert!(started.elapsed() < Duration::from_secs(30), "the server was killed long ago"),
                        Err(error) => {
                            assert!(matches!(error, Error::Transport { .. }), "{error}");
                            assert!(before.elapsed() < Duration::from_secs(20), "an error within its timeout");
                            break;
                        }
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        server.kill();
    });
    let local: Vec<_> = (0..boxes.len()).filter(|n| boxes[*n].is_local()).collect();
    assert!(!local.is_empty());
    for n in local {
        boxes[n].try_with(|v| assert_eq!(*v, [n as u64; 64])).unwrap();
    }
    // New objects fit until local memory is full; then the reason is named. Nothing hangs.
    let started = Instant::now();
    let mut more = Vec::new();
    let error = loop {
        match RemBox::try_new_in([1u64; 64], &mem) {
            Ok(value) => more.push(value),
            Err(error) => break error,
        }
        assert!(started.elapsed() < Duration::from_secs(30));
    };
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert!(more.iter().all(|value| value.try_with(|v| v[0] == 1).unwrap()));
    let started = Instant::now();
    drop((boxes, more));
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// Two programs share a server, so that each gets less than the server has. How much is known when it has refused, and must be known before local memory is full of what can't leave.
#[test]
fn a_server_that_lends_less_than_it_has_is_found_out_in_time() {
    for start in KINDS {
        let server = start("64MiB");
        let (first, second) = (server.memory(4 << 20), server.memory(4 << 20));
        let pages = |mem: &FarMemory, most: usize| -> Vec<RemBox<[u64; 512]>> {
            (0..most).map_while(|n| RemBox::try_new_in([n as u64; 512], mem).ok()).collect()
        };
        let of_first = pages(&first, (48 << 20) / 4096);
        assert_eq!(of_first.len(), (48 << 20) / 4096);
        let mut of_second = pages(&second, 1 << 20);
        let refused = RemBox::try_new_in([0_u64; 512], &second).map(drop);
        assert!(matches!(refused, Err(Error::FarMemoryFull { .. })), "{refused:?}");
        let (borrowed, held) = (second.stats().far_borrowed_bytes, of_second.len() as u64 * 4096);
        assert!(borrowed >= 8 << 20 && held > borrowed * 9 / 10, "{held} of {borrowed}");
        let mut next = numbers(5);
        for step in 0..4 * of_second.len() {
            let number = next() as usize % of_second.len();
            let page = &mut of_second[number];
            let outcome = if step % 2 == 0 {
                page.try_with_mut(|page| page[1] += 1)
            } else {
                page.try_with(|page| assert_eq!(page[0], number as u64))
            };
            outcome.unwrap_or_else(|error| panic!("step {step}: {error}"));
        }
        drop((of_first, of_second));
        assert_empty(&first);
        assert_empty(&second);
    }
}

#[test]
fn full_server_is_an_error_that_names_it() {
    let server = Farmemd::start("2MiB");
    let mem = server.memory(1 << 20);
    let mut boxes = Vec::new();
    let error = loop {
        match RemBox::try_new_in([boxes.len() as u64; 64], &mem) {
            Ok(value) => boxes.push(value),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::FarMemoryFull { .. }), "{error}");
    assert!(error.to_string().contains(&server.address), "{error}");
    // Of the eight segments that 2 MiB are two are being filled and one is kept for cleaning.
    assert!(boxes.len() > 5 * (256 << 10) / 528, "{} boxes: {error}", boxes.len());
    for (n, value) in boxes.iter().enumerate() {
        value.with(|v| assert_eq!(*v, [n as u64; 64]));
    }
    // Room again as soon as something is dropped.
    boxes.truncate(2000);
    boxes.push(RemBox::new_in([7; 64], &mem));
}

#[test]
fn absent_server_is_an_error_that_says_what_to_do() {
    let error = FarMemory::builder().local_budget(1 << 20).server("tcp:127.0.0.1:1").build().unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("farmemd"), "{error}");
}

#[test]
fn blocking_and_async_forms_over_tcp_with_no_uring() {
    if std::env::var_os("FARPTR_TEST_NO_URING").is_some() {
        assert!(farptr_runtime::sys::probe_io_uring().is_err(), "this step is meant to run where io_uring is refused");
    }
    let server = Farmemd::start("64MiB");
    let mem = server.memory(1 << 20);
    exercise(&mem, 2, 5_000, 5_000);
    let mut value = RemBox::new_in([3u64; 100], &mem);
    mem.evacuate_all().unwrap();
    block_on(async {
        value.with_mut_async(|v| v[99] = 4).await.unwrap();
        assert_eq!(value.pin_async().await.unwrap()[99], 4);
    });
    drop(value);
    assert_empty(&mem);
}
