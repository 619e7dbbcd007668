-- Error texts hold peers' words. They are cut at the error's door; what comes by another one is refused here.

update lastgood.runs set error = left(error, 4000) where octet_length(error) > 32768;
update lastgood.runs set error_detail = left(error_detail, 16000) where octet_length(error_detail) > 131072;
update lastgood.attempts set error = left(error, 4000) where octet_length(error) > 32768;
update lastgood.attempts set tool_words = left(tool_words, 16000) where octet_length(tool_words) > 131072;
update lastgood.restore_points set quarantined_because = left(quarantined_because, 4000) where octet_length(quarantined_because) > 32768;
update lastgood.restore_points set refused_because = left(refused_because, 4000) where octet_length(refused_because) > 32768;

alter table lastgood.runs
    add constraint runs_error_is_bounded check (octet_length(error) <= 32768),
    add constraint runs_error_detail_is_bounded check (octet_length(error_detail) <= 131072);
alter table lastgood.attempts
    add constraint attempts_error_is_bounded check (octet_length(error) <= 32768),
    add constraint attempts_tool_words_are_bounded check (octet_length(tool_words) <= 131072);
alter table lastgood.restore_points
    add constraint restore_points_quarantine_is_bounded check (octet_length(quarantined_because) <= 32768),
    add constraint restore_points_refusal_is_bounded check (octet_length(refused_because) <= 32768);
