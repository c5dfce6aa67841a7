-- Every simulated user id, where open_log finds it.
INSERT INTO weekly_kpi (user_id, week_start)
SELECT user_id, %(week_start)s FROM simulated_truth.learners
