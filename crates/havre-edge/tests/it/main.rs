//! The edge as a process: real sockets on loopback, ports chosen by the kernel, origins of our own.
//!
//! This binary is the edge as well: started with `edge …` it is the process under test.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod basics;
mod canary;
mod challenges;
mod confined;
mod datagrams;
mod desync;
mod drain;
mod edge;
mod faults;
mod framing;
mod grpc;
mod headers;
mod http1;
mod http2;
mod kept;
mod local;
mod origin;
mod pushes;
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Names a test by its module and function.
macro_rules! trials {
    ($($module:ident :: { $($function:ident),* $(,)? })*) => {
        vec![$($(trial(
            concat!(stringify!($module), "::", stringify!($function)),
            $module::$function,
        )),*),*]
    };
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let name = args
        .first()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if let Some(code) = havre_edge::entrypoint(&name, args.get(1..).unwrap_or_default()) {
        return code;
    }
    let trials = trials! {
        basics::{
            proxies_over_https_and_redirects,
            refuses_older_states_and_keeps_the_newest_on_disk,
        }
        canary::{
            a_share_of_requests_goes_to_the_canary,
            a_browser_stays_on_its_side,
            without_a_canary_nobody_gets_a_number,
            a_dead_canary_costs_no_request,
        }
        challenges::{
            an_authority_finds_its_answer_before_redirects_and_routes,
            an_authority_is_shown_its_certificate_and_nobody_else_is,
            renewed_certificates_cost_no_connection,
        }
        confined::{
            every_thread_has_given_up_what_it_does_not_need,
            it_sees_its_folders_and_nothing_else,
            a_privileged_port_can_be_opened_later,
            it_takes_over_from_an_edge_that_runs_as_root,
        }
        datagrams::{
            datagrams_pass_both_ways_at_any_length,
            answers_leave_from_the_address_that_was_spoken_to,
            clients_stay_with_their_replicas_through_a_replacement,
            nothing_is_lost_while_replicas_are_replaced,
            nothing_is_lost_while_a_new_edge_takes_over,
            a_replica_where_nobody_listens_is_left,
            a_flood_of_clients_leaves_those_that_are_there,
            an_address_that_floods_leaves_room_for_new_clients_of_others,
            a_port_that_is_no_longer_wanted_is_free,
        }
        desync::{
            ambiguous_framing_is_refused_or_made_plain,
            an_unread_body_is_not_a_request,
            nothing_is_tunnelled_before_the_101,
            a_second_answer_is_not_given_to_the_next_client,
            an_unasked_101_is_a_failure,
            expect_continue_does_not_desynchronise,
        }
        drain::{
            replicas_are_replaced_under_load,
            replicas_are_replaced_under_http2_load,
            a_removed_replica_is_reported_until_it_is_idle,
            draining_closes_idle_connections_to_the_replica,
            streams_are_closed_at_a_paced_rate,
            a_websocket_is_closed_between_two_frames,
            shutdown_finishes_what_is_under_way,
            sigterm_ends_it_in_good_order,
            a_new_edge_takes_over_without_a_failure,
            a_takeover_without_an_edge_is_a_start,
        }
        faults::{
            a_dead_replica_is_named_in_the_log_only,
            a_replica_that_dies_in_the_middle_is_told_from_a_finished_one,
            other_replicas_take_over_from_a_dead_one,
            a_stale_connection_costs_nothing,
            requests_are_held_until_a_replica_comes,
            requests_are_held_while_a_replica_restarts,
            holding_ends_with_the_reason,
            unknown_hosts_reach_no_application,
            a_client_without_sni_may_ask_for_what_the_certificate_covers,
            a_bad_certificate_hurts_its_own_host_only,
            a_taken_port_is_a_problem_that_heals,
            two_edges_do_not_share_a_port,
            a_second_edge_in_the_same_directory_refuses,
            it_comes_back_after_sigkill,
            a_log_that_cannot_be_written_ends_nothing,
            a_state_that_could_not_be_saved_is_saved_without_a_push,
            slow_heads_are_cut_off,
            a_connection_flood_from_one_address_is_capped,
            what_one_address_may_have_is_configured_and_told_once,
            a_crowd_keeps_its_connections_to_a_replica,
            a_host_without_a_certificate_is_a_problem,
        }
        framing::{
            a_get_keeps_its_body,
            a_request_without_a_body_stays_one,
            transfer_encoding_overrides_content_length_in_answers,
            answers_in_unknown_encodings_are_failures,
            refused_requests_are_answered_and_logged,
            a_refused_request_waits_for_its_turn,
            a_slow_head_is_answered_and_logged,
            targets_that_are_no_uri_are_passed_on,
            interim_answers_are_passed_on,
            interim_answers_come_before_the_final_one,
            trailers_are_passed_both_ways,
            the_server_as_a_whole_has_options,
            the_port_is_the_one_that_was_spoken_to,
        }
        grpc::{
            calls_of_every_kind_pass,
            many_calls_at_once_pass,
            connections_that_are_closed_cost_no_call,
            a_long_call_ends_when_its_replica_leaves,
            h2c_replicas_serve_other_clients,
        }
        headers::{
            claims_are_believed_from_trusted_proxies_only,
            a_trusted_proxy_that_ended_tls_is_not_redirected,
            prefixes_are_stripped_and_told,
            answers_lose_what_is_of_one_hop,
            browsers_remember_https_of_public_names,
        }
        http2::{
            what_http1_cannot_say_is_refused,
            a_request_arrives_as_http1,
            a_body_of_another_length_is_refused,
            rapid_resets_end_the_connection,
            made_resets_end_the_connection,
            a_flood_of_continuations_ends_the_connection,
            a_flood_of_empty_data_ends_the_connection,
            answers_that_nobody_takes_are_few_for_one_address,
            a_get_with_data_keeps_it,
            a_request_that_was_waited_for_goes_where_the_new_state_says,
            a_connection_without_a_preface_is_closed,
            targets_that_are_no_uri_are_passed_on,
            a_connection_serves_what_its_certificate_covers,
            an_own_answer_waits_for_a_small_body,
            long_header_blocks_pass,
            what_the_parser_refuses_is_logged,
            interim_answers_are_passed_on,
        }
        kept::{
            who_comes_between_two_edges_is_served_by_the_second,
            an_edge_goes_on_and_hands_over_while_its_sockets_are_kept,
            what_a_state_gives_up_is_not_kept,
            sockets_that_do_not_arrive_are_an_error,
        }
        local::{
            requests_go_to_a_socket_over_connections_that_are_kept,
            a_websocket_goes_to_a_socket_and_is_closed_when_told,
            a_connection_to_a_port_is_passed_on_to_a_socket,
            a_dead_socket_is_named_in_the_log_only,
            who_replaces_a_socket_gets_what_comes,
            requests_wait_while_who_listens_restarts,
            who_listens_before_the_edge_starts_is_reached,
            a_socket_that_cannot_be_reached_is_a_problem,
        }
        pushes::{
            a_request_that_was_waited_for_goes_where_the_new_state_says,
            a_request_whose_route_goes_away_is_told_so,
            a_websocket_waits_for_the_replica_that_a_push_brings,
        }
        streams::{
            events_arrive_one_by_one,
            websockets_pass_both_ways,
            a_websocket_over_h2c_is_refused_with_the_reason,
            a_large_upload_is_streamed_in_bounded_memory,
            a_large_download_waits_for_a_slow_client,
            an_early_answer_to_an_upload_can_be_read,
            a_small_unread_body_does_not_cost_the_connection,
            a_slow_form_does_not_occupy_a_worker,
            the_memory_of_a_crowd_is_given_back,
        }
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
