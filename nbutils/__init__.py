"""Build a small judge of RAG answers from an expensive one, and measure how far to trust it.

The modules, by what they are about; the first line of each says what it does and never does.

Rows and files   records, jsonl, files, prompts, verdicts, resolution
Choices          profiles, roles, runs
Models           models; recorded, clients, endpoints, huggingface, local, embeddings
                 (whoever answers)
The call path    calls, stage, service, exchange, store, spend
01 questions     documents, retrieval, vectors, questions, question_replies, splits
02 answers       answering; own, own_rows (rows of your own)
03 judgements    judging, logprobs
05 the student   student, backbone, targets, training, calibration, checkpoint, weights
05 and writers   writers; events, hosted, jobfile, tuning (by a service);
                 lessons, generative, causal_lm, chat_format, generation (here)
06 evaluation    agreement, measures, floors, untuned, judge
Pictures         plots, pictures, drawing, display
The runner       run, series, execute, manifest, report, timings
"""

__version__ = "0.1.0"
