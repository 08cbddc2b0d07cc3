"""The examples run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

ROOT = Path(__file__).parent.parent


FRAMEWORKS = ("haystack", "langchain_core", "llama_index")


def skip_without_frameworks(code: str) -> None:
    """Skip what needs a framework that is not installed."""
    for framework in FRAMEWORKS:
        if re.search(rf"^from {framework}\b", code, re.MULTILINE):
            pytest.importorskip(framework)


@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/[a-z]*.py")), ids=lambda path: path.name)
def test_example(script: Path, tmp_path: Path) -> None:
    skip_without_frameworks(script.read_text(encoding="utf-8"))
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout
    assert run.stderr == ""
    assert not list(tmp_path.iterdir())
    if script.name == "quickstart.py":
        lines = run.stdout.splitlines()
        assert lines[2].split()[1] == "bees:"
        assert lines[-1] == "before 2021: glaciers"


class Endpoint(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible server does, with what it was asked."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
        answer = json.dumps({"choices": [{"message": {"content": "By dancing [1]."}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def passages(tmp_path: Path) -> Path:
    file = tmp_path / "docs.jsonl"
    texts = {
        "bees": "A bee that has found flowers dances in the hive.",
        "otters": "Otters sleep holding hands.",
    }
    file.write_text("\n".join(json.dumps({"id": id_, "text": text}) for id_, text in texts.items()), "utf-8")
    return file


def rag(*words: object) -> str:
    script = ROOT / "examples" / "rag.py"
    environment = {**os.environ, "OPENAI_API_KEY": "secret"}
    run = subprocess.run(
        [sys.executable, script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_rag_asks_an_endpoint_for_an_answer_with_citations(passages: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/v1"
        said = rag(
            "How do insects share places?", "--file", passages, "--endpoint", address, "--model", "tiny"
        )
    finally:
        server.shutdown()
        server.server_close()
    assert "By dancing [1]." in said
    assert "[1] bees" in said
    (asked,) = Endpoint.asked
    assert (asked["path"], asked["key"], asked["model"]) == ("/v1/chat/completions", "Bearer secret", "tiny")
    prompt = asked["messages"][0]["content"]
    assert "[1] bees: A bee that has found flowers" in prompt
    assert prompt.endswith("Question: How do insects share places?\nAnswer:")


def test_rag_asks_a_local_model(passages: Path, tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"<unk>": 0, "bees": 1, "dance": 2, "<end>": 3}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>")
    tokenizer.save_pretrained(tmp_path / "model")
    config = GPT2Config(vocab_size=4, n_positions=4096, n_embd=8, n_layer=1, n_head=1, eos_token_id=3)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    said = rag("Who dances?", "--file", passages, "--transformers", tmp_path / "model")
    assert "[1] bees" in said
    assert "No model is given" not in said
